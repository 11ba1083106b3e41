"""What a plugin promises, and a battery that finds out within seconds whether it keeps it.

`streamlab check`, our tests and strangers' tests share the list in promises.py:

    from streamlab.check import Subject, strategy_checks

    @pytest.mark.parametrize("check", list(strategy_checks()), ids=lambda check: check.__name__)
    def test_promises(check):
        check(Subject.named("my-strategy"))

Scenarios and sources have promises too: scenario_checks and ScenarioSubject, source_checks and SourceSubject.
"""

from .outcomes import Outcome, check_plugin, check_strategy
from .plans import ScenarioSubject, scenario_checks
from .promises import strategy_checks
from .sources import SourceSubject, source_checks
from .subject import Broken, Subject

__all__ = [
    "Broken",
    "Outcome",
    "ScenarioSubject",
    "SourceSubject",
    "Subject",
    "check_plugin",
    "check_strategy",
    "scenario_checks",
    "source_checks",
    "strategy_checks",
]
