"""What the outcome of an attempt tells of the pace that its next hop likes (`pace.py`), and what is said of mail that
waits because the hop rests. Pure.
"""

from posthouse.queue.jobs import Job
from posthouse.queue.pace import Pace, is_slower
from posthouse.queue.results import DEFERRED, DELIVERED, Report, Verdict

_UNREACHED = ("4.4.1", "4.4.2")  # no connection, or it broke before an answer (RFC 3463 section 3.5)


def not_tried(pace: Pace) -> str:
    """Why mail for a hop that rests waits."""
    return f"Not tried: the last attempts there found nobody ({pace.why})"


def put_off(job: Job, pace: Pace) -> Report:
    """What becomes of mail for a hop that rests, when its sender may have to hear of the delay."""
    text = not_tried(pace)
    verdict = Verdict(DEFERRED, 451, "4.4.1", text, "", False)
    return Report({claim.address: verdict for claim in job.claims}, [f"! {text}"])


def learn(pace: Pace, report: Report, now: int) -> None:
    """What an attempt tells of the pace that its hop likes."""
    verdicts = report.verdicts.values()
    if any(is_slower(one.code, one.status) for one in verdicts if one.remote):
        pace.slower()
    elif any(one.remote or one.state == DELIVERED for one in verdicts):
        pace.answered()
    elif unreached := [one for one in verdicts if one.status in _UNREACHED]:
        pace.unreached(now, unreached[0].text)
