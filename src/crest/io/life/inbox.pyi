from typing import final

from crest.io.life.intake import Intake

@final
class Inbox(Intake): ...
