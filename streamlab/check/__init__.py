"""What a plugin promises, and a battery that finds out within seconds whether it keeps it.

`streamlab check`, our tests and strangers' tests share the list in promises.py:

    from streamlab.check import Subject, strategy_checks

    @pytest.mark.parametrize("check", list(strategy_checks()), ids=lambda check: check.__name__)
    def test_promises(check):
        check(Subject.named("my-strategy"))
"""

from .outcomes import Outcome, check_strategy
from .promises import strategy_checks
from .subject import Broken, Subject

__all__ = ["Broken", "Outcome", "Subject", "check_strategy", "strategy_checks"]
