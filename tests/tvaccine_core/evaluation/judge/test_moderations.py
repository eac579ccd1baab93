"""The client and judge against a real HTTP server on this machine."""

import json
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from tvaccine_core.errors import ScoringFailed
from tvaccine_core.evaluation.judge.calibrated import CalibratedJudge
from tvaccine_core.evaluation.judge.calibration import calibrate_judge
from tvaccine_core.evaluation.judge.moderations import ModerationsJudge, read_result
from tvaccine_core.evaluation.judge.moderations_client import KEY_VARIABLE, ModerationsClient
from tvaccine_core.evaluation.judge.names import parse_judge
from tvaccine_core.evaluation.judge.rows import JudgeRow
from tvaccine_core.evaluation.judge.taxonomy import CATEGORIES
from tvaccine_core.evaluation.judge.verdict import judge_pairs

PAIRS = [("asked one", "fine"), ("asked two", "a bad thing"), ("asked three", "  ")]


def result(text: str) -> dict[str, Any]:
    bad = "bad" in text
    return {
        "flagged": bad,
        "categories": {name: bad and name == "violence" for name in CATEGORIES},
        "category_scores": {name: 0.3 if bad and name == "violence" else 0.01 for name in CATEGORIES},
    }


def answer_well(body: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"id": "modr-1", "model": "guard-2", "results": [result(text) for text in body["input"]]}


class Service(ThreadingHTTPServer):
    """Answers as told; keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.script: list[tuple[int, Any, dict[str, str]]] = []
        self.reply: Callable[[dict[str, Any]], tuple[int, Any]] = answer_well

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        self.server.keys.append(self.headers.get("authorization"))
        self.server.paths.append(self.path)
        if self.server.script:
            status, content, headers = self.server.script.pop(0)
        else:
            (status, content), headers = self.server.reply(body), {}
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with Service() as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def judge(service: Service, pauses: list[float]) -> ModerationsJudge:
    return ModerationsJudge(ModerationsClient(service.url, "guard", attempts=3, pause=pauses.append))


def test_verdicts_are_the_services_own(judge: ModerationsJudge, service: Service) -> None:
    fine, bad, blank = judge_pairs(judge, PAIRS)
    assert (fine.flagged, bad.flagged, blank.flagged) == (False, True, False)
    assert bad.score == bad.categories["violence"] == pytest.approx(0.65)
    assert fine.categories["violence"] == pytest.approx(0.005)
    assert set(bad.categories) == set(CATEGORIES)
    assert (blank.score, blank.categories) == (0.0, {})
    # One request for the two answers that say something, with the prompt before them.
    assert len(service.asked) == 1
    assert service.asked[0]["model"] == "guard"
    assert sorted(service.asked[0]["input"]) == [
        "User: asked one\n\nAssistant: fine",
        "User: asked two\n\nAssistant: a bad thing",
    ]
    assert service.paths == ["/v1/moderations"]
    assert service.keys == [None]


def test_the_answer_alone_and_the_key(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-1")
    judge = ModerationsJudge.load(parse_judge(f"moderations-answer:{service.url}"))
    judge_pairs(judge, PAIRS[:1])
    assert service.asked == [{"input": ["fine"]}]
    assert service.keys == ["Bearer sk-1"]


def test_long_lists_go_in_batches(service: Service) -> None:
    judge = ModerationsJudge(ModerationsClient(service.url), batch_size=4)
    told: list[tuple[int, int]] = []
    pairs = [("q", f"answer {'bad' if n % 3 == 0 else ''} {'x' * n}") for n in range(10)]
    verdicts = judge_pairs(judge, pairs, on_batch=lambda done, total: told.append((done, total)))
    assert [v.flagged for v in verdicts] == [n % 3 == 0 for n in range(10)]
    assert [len(body["input"]) for body in service.asked] == [4, 4, 2]
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_the_version_tells_url_form_and_the_services_model(judge: ModerationsJudge, service: Service) -> None:
    before = judge.version
    judge_pairs(judge, PAIRS)
    assert judge.version == f"{before} guard-2"
    other = ModerationsJudge(ModerationsClient(service.url, "guard"), with_prompt=False)
    assert other.version != before
    assert other.name == f"moderations-answer {service.server_address[0]}:{service.server_address[1]}"


def test_two_thresholds_are_two_versions(judge: ModerationsJudge) -> None:
    again, other = (ModerationsJudge(judge.client, threshold=at) for at in (0.5, 0.4))
    assert judge.version == again.version != other.version


def test_a_threshold_belongs_to_the_model_behind_the_service(judge: ModerationsJudge, service: Service) -> None:
    rows = [JudgeRow(f"q{i}", f"{'bad' if i % 2 else 'fine'} {i}", i % 2, "mine", "test") for i in range(40)]
    found = calibrate_judge(judge, rows, "")
    assert 0.005 < found.threshold <= 0.65
    # A fresh client does not know yet which model will answer.
    calibrated = CalibratedJudge(ModerationsJudge(ModerationsClient(service.url, "guard")), found)
    assert [verdict.flagged for verdict in judge_pairs(calibrated, PAIRS)] == [False, True, False]
    service.reply = lambda body: (200, {**answer_well(body)[1], "model": "guard-3"})
    with pytest.raises(ScoringFailed, match="guard-3 now"):
        judge_pairs(calibrated, PAIRS)


def test_a_busy_service_is_asked_again_ever_more_slowly(
    judge: ModerationsJudge, service: Service, pauses: list[float]
) -> None:
    service.script = [(503, {}, {}), (429, {}, {})]
    assert judge_pairs(judge, PAIRS)[1].flagged
    assert pauses == [1.0, 2.0]
    service.script = [(429, {}, {"retry-after": "7"}), (500, {}, {"retry-after": "9999"})]
    judge_pairs(judge, PAIRS)
    assert pauses[2:] == [7.0, 60.0]


def test_a_service_that_stays_busy_fails_closed(judge: ModerationsJudge, service: Service, pauses: list[float]) -> None:
    service.script = [(500, {}, {})] * 3
    with pytest.raises(ScoringFailed, match=r"failed 3 times \(status 500\)"):
        judge_pairs(judge, PAIRS)
    assert len(service.asked) == 3
    assert len(pauses) == 2


def test_a_refusal_is_final_and_tells_no_secrets(
    judge: ModerationsJudge, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-secret")
    service.script = [(401, {"error": "no"}, {})]
    with pytest.raises(ScoringFailed, match=KEY_VARIABLE) as caught:
        judge_pairs(judge, PAIRS)
    assert len(service.asked) == 1
    assert "sk-secret" not in caught.value.message
    assert "bad thing" not in caught.value.message


def test_a_redirect_is_not_followed(judge: ModerationsJudge, service: Service) -> None:
    service.script = [(307, {}, {"location": service.url})]
    with pytest.raises(ScoringFailed, match="status 307"):
        judge_pairs(judge, PAIRS)


def test_nobody_at_home_fails_closed(pauses: list[float]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as gone:
        port = gone.server_address[1]
    judge = ModerationsJudge(ModerationsClient(f"http://127.0.0.1:{port}/v1", attempts=2, pause=pauses.append))
    with pytest.raises(ScoringFailed, match="ConnectError"):
        judge_pairs(judge, PAIRS)


def test_a_service_that_never_answers_fails_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        judge = ModerationsJudge(ModerationsClient(url, timeout=0.1, attempts=1))
        with pytest.raises(ScoringFailed, match="ReadTimeout"):
            judge_pairs(judge, PAIRS)


@pytest.mark.parametrize(
    "content",
    [
        b"not json",
        {"results": []},
        {"results": "two"},
        {"error": "x"},
        [1],
        {"results": [{"flagged": "yes"}, {"flagged": True}]},
        {"results": [{"flagged": False, "category_scores": {"hate": "high"}}] * 2},
        {"results": [{"flagged": False, "category_scores": {"hate": 1.5}}] * 2},
        {"results": [{"flagged": False, "categories": [1]}] * 2},
    ],
)
def test_an_answer_that_is_no_verdict_fails_closed(judge: ModerationsJudge, service: Service, content: Any) -> None:
    service.script = [(200, content, {})]
    with pytest.raises(ScoringFailed):
        judge_pairs(judge, PAIRS)


def test_results_in_the_forms_that_services_give() -> None:
    flags_only = read_result({"flagged": True, "categories": {"hate": True, "sexual": False}})
    assert (flags_only.score, flags_only.categories) == (1.0, {"hate": 1.0, "sexual": 0.0})
    assert read_result({"flagged": False}).score == 0.0
    # Flagged by a category of the service's own; null where a category was not looked at.
    own = read_result(
        {
            "flagged": True,
            "categories": {"spam": True, "hate": False, "illicit": None},
            "category_scores": {"spam": 0.8, "hate": 1.0, "illicit": None},
        }
    )
    assert own.score == 1.0
    assert own.categories == {"hate": 0.4999, "illicit": 0.0}
