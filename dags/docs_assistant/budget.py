"""What a candidate may spend."""

from dataclasses import dataclass


@dataclass
class Budget:
    """Limits of a candidate, and what it has spent.

    Attributes:
        tries: How often a question is asked if the model is busy or fails.
        tokens: The tokens of all requests and answers.
        usd: The price of all requests and answers.
    """

    tries: int
    tokens: int
    usd: float
    spent_tokens: int = 0
    spent_usd: float = 0.0

    def spend(self, tokens: int, usd: float) -> None:
        """Add what an answer has cost."""
        self.spent_tokens += tokens
        self.spent_usd += usd

    @property
    def exhausted(self) -> str | None:
        """Why nothing more may be asked, or None."""
        if self.spent_tokens >= self.tokens:
            return f"the budget of {self.tokens:,} tokens is used up"
        if self.spent_usd >= self.usd:
            return f"the budget of {self.usd:.2f} $ is used up"
        return None
