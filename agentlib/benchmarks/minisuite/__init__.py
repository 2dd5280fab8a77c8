"""Eight generated benchmarks that mirror the paper's, with the encyclopedia that answers them:
for teaching and tests."""

from agentlib import export

__getattr__, __dir__, __all__ = export(__name__, {"suite": "NAMES load support"})
