"""What a run knows of the pictures of one case, as results.jsonl has it."""

from __future__ import annotations

from img2prompt.jobs.loop.folder import Row, RunFolder
from img2prompt.jobs.loop.judge import judged_row
from img2prompt.jobs.loop.pictures import picture_row
from img2prompt.jobs.loop.scoring import Case
from img2prompt.jobs.loop.summary import scores_row


def case_row(run: RunFolder, case: Case) -> Row:
    """By kind: pictures, scores and ceiling, `again` (what is predicted of each picture), and verdicts where there are.

    Args:
        run: the run.
        case: an original or a base prompt, with its pictures.
    """
    scores, ceiling = scores_row((run.get("score", case.id) or {}).get("scores", {}))
    row: Row = {
        "pictures": {kind: [picture_row(run, one) for one in some] for kind, some in case.pictures.items()},
        "scores": scores,
        "ceiling": ceiling,
        "ceiling_from": case.ceiling,
        "again": {
            kind: [(run.get("again", one.file) or {}).get("text") for one in some]
            for kind, some in case.pictures.items()
        },
    }
    judged = judged_row(run, case)
    return {**row, "judged": judged} if judged else row


def failed_pictures(name: str, row: Row) -> list[Row]:
    """The pictures of a case that could not be made, each with its reason.

    Args:
        name: of the case, for people.
        row: of `case_row`.
    """
    return [
        {"source": f"{name}, {kind}, seed {one['seed']}", "error": one["error"], "kind": one["kind"]}
        for kind, some in row["pictures"].items()
        for one in some
        if "error" in one
    ]
