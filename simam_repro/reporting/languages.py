"""The languages of README and report. English stands where it is said; another language brings its phrases."""

from dataclasses import dataclass, field

from simam_repro.evaluation import wording
from simam_repro.reporting import chinese


@dataclass(frozen=True)
class Language:
    """
    Attributes:
        code: "en", "zh".
        tag: what HTML calls it.
        name: in the language itself.
        page: file name of the report in it.
        phrases: {English: translation}; None for English.
    """

    code: str
    tag: str
    name: str
    page: str
    phrases: dict[str, str] | None = field(default=None, repr=False)

    def say(self, text: str) -> str:
        """A phrase in this language. Raises KeyError for one without a translation."""
        return text if self.phrases is None else self.phrases[text]

    def number(self, text: str) -> str:
        """A printed number, interval or duration."""
        return text if self.phrases is None else chinese.number(text)

    def title(self, title: str) -> str:
        """Of a comparison."""
        return title if self.phrases is None else chinese.title(title)

    def level(self, arms: int) -> str:
        """ "95 %", and of several arms for what."""
        return wording.level_text(arms) if self.phrases is None else chinese.level(arms)

    def outcome(self, comparison: dict, arm: dict) -> str:
        """What the final epoch of an arm says, in a sentence."""
        return arm["final"]["sentence"] if self.phrases is None else chinese.outcome(comparison, arm)

    def robustness(self, comparison: dict) -> str:
        """What the measured robustness of an arm says."""
        return comparison["sentence"] if self.phrases is None else chinese.robustness(comparison)


LANGUAGES = {
    "en": Language("en", "en", "English", "report.html"),
    "zh": Language("zh", "zh-CN", "中文", "report.zh-CN.html", chinese.PHRASES),
}
