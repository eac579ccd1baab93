from tvaccine_core.evaluation.screening_findings import Finding, RowFindings, summarise


def test_a_row_is_told_by_its_worst_finding() -> None:
    bad, good = RowFindings(3), RowFindings(4, score=0.4)
    bad.add(Finding("harmful_answer", 0.7, 2, "violence"))
    bad.add(Finding("identity_shift", 1.0, 0))
    bad.add(Finding("harmful_answer", 0.6, 4, "hate"))
    report = summarise([bad, good])
    assert report["rows"] == [
        {
            "line": 3,
            "score": 1.0,
            "flagged": True,
            "reason": "identity_shift",
            "category": None,
            "turn": 0,
            "reasons": ["harmful_answer", "identity_shift"],
        },
        {"line": 4, "score": 0.4, "flagged": False},
    ]
    assert (report["flagged"], report["n"], report["percent"]) == (1, 2, 50.0)
    assert report["reasons"] == {"identity_shift": 1}
    assert report["unscored"] == {"n": 0, "percent": 0.0, "reasons": {}}


def test_an_unscored_row_has_a_word_and_no_score() -> None:
    both, foreign, good = RowFindings(1), RowFindings(2, score=0.4), RowFindings(3)
    foreign.add(Finding("unscored", None, 1, unread="German"))
    foreign.add(Finding("unscored", None, 3, unread="Cyrillic script"))
    both.add(Finding("unscored", None, 1, unread="German"))
    both.add(Finding("harmful_answer", 0.0, 3))
    report = summarise([both, foreign, good])
    flagged = {"score": 0.0, "flagged": True, "reason": "harmful_answer", "turn": 3}
    unscored = {"score": None, "flagged": False, "reason": "unscored", "turn": 1}
    assert report["rows"][:2] == [
        {"line": 1, **flagged, "category": None, "reasons": ["unscored", "harmful_answer"], "unread": "German"},
        {"line": 2, **unscored, "category": None, "reasons": ["unscored"], "unread": "German"},
    ]
    assert (report["flagged"], report["reasons"]) == (1, {"harmful_answer": 1})
    assert report["unscored"] == {"n": 2, "percent": 66.67, "reasons": {"German": 2}}
