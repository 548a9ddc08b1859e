#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["paho-mqtt>=2.1", "requests", "pyprowl"]
# ///
"""Règle chaque soir un ESS Victron d'après la couleur TEMPO du lendemain.

cron lance ce script à 20:05 et à 22:02. Il lit les couleurs (EcoDevice et web),
en déduit les réglages de la batterie, n'écrit sur le GX que ce qui diffère,
relit pour prouver que le GX l'a pris, et prévient par Prowl. Le GX est sa seule
mémoire : une exécution manquée est rattrapée par la suivante de la même période
(HP ou HC), et une seconde exécution de suite n'écrit rien.

  couleur de demain   charge (Schedule 1)   BatteryLife   MinSoc
  BLEU                80 %                  on            30 %
  BLANC               90 %                  on            30 %
  ROUGE               100 %                 off           25 %

  20:05, en HP : la charge seule.
  22:02, en HC : la charge si elle manque, MinSoc et BatteryLife.
  Avec `relais` (secret.py), chaque exécution règle aussi le relais.

Schedule 1 est la charge programmée du GX, de 22:00 à 06:00. MinSoc est la
réserve que la batterie garde ; BatteryLife la relève de lui-même quand le
soleil manque. Un jour rouge la batterie doit servir : réserve plus basse,
BatteryLife off, et une charge de 100 % la nuit d'avant.

  code   sens
  0      le GX est dans l'état voulu, qu'il ait fallu changer ou non
  1      bogue du script
  2      ligne de commande ou secret.py
  3      aucune source ne donne la couleur du jour
  4      GX injoignable, ou connexion refusée par lui
  5      publié mais non confirmé, réglage sans réponse, ou valeur non tenue
"""

import argparse
import ast
import difflib
import json
import logging
import operator
import os
import re
import socket
import ssl
import stat
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from enum import Enum, IntEnum, StrEnum, auto
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from uuid import uuid4
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

FOLDER = Path(__file__).resolve().parent
VENV = FOLDER / ".venv"

try:
    import paho.mqtt.client as mqtt
    import pyprowl  # type: ignore[import-untyped]
    import requests
    from paho.mqtt.enums import CallbackAPIVersion  # absent before paho-mqtt 2
except ImportError as missing:
    if Path(sys.prefix).resolve() == VENV.resolve():  # a system upgrade gave it another Python
        remedy = (
            f"refaites .venv : python3 -m venv --clear {VENV}"
            f" puis {VENV}/bin/pip install 'paho-mqtt>=2.1' requests pyprowl"
        )
    else:  # the system's own Python: the commonest slip
        remedy = f"lancez : {VENV}/bin/python {' '.join(sys.argv)}"
    print(f"erreur : {missing.name} manque à ce Python ; {remedy}", file=sys.stderr)
    raise SystemExit(2) from None

try:
    PARIS = ZoneInfo("Europe/Paris")
except ZoneInfoNotFoundError:
    remedy = "sudo apt install tzdata"
    print(f"erreur : cette machine n'a pas les fuseaux horaires : {remedy}", file=sys.stderr)
    raise SystemExit(2) from None

__version__ = "1.2.0"


# ---- Exit codes, failures, the one voice ---------------------------------------------------------


class Exit(IntEnum):
    """What cron and the owner are told by the exit code."""

    RIGHT = 0  # the GX is in the wanted state
    BUG = 1  # a traceback is on stderr
    USAGE = 2  # command line or secret.py
    COLOUR = 3  # no source gave today's colour
    GX = 4  # the GX is unreachable, or refused the login
    UNCONFIRMED = 5  # published but not confirmed, silent, or not held


# There are three kinds of expected failure, each with a French sentence. All else is a bug.
#
#   exception  what it means            who raises it         what follows
#   Failure    the run cannot go on     any stage of the run  main says it and exits with its code
#   NoAnswer   a source is down         the meter, the web    the next source is asked
#   Lost       a try at the GX failed   the link to the GX    set_gx tries again, or raises Failure
#
# --check makes a line of each and goes on.


class Failure(Exception):
    """The run ends with this exit code."""

    def __init__(self, text: str, code: Exit) -> None:
        super().__init__(text)
        self.code = code


class NoAnswer(Exception):
    """A source of colours is down or does not know; the run goes on with the next."""

    def __init__(self, text: str, again: bool = False) -> None:
        """again: whether a new try may help."""
        super().__init__(text)
        self.again = again


class Lost(Exception):
    """A try at the GX failed."""

    def __init__(self, text: str, hopeless: bool = False) -> None:
        """hopeless: no new try will help."""
        super().__init__(text)
        self.hopeless = hopeless


NOTHING_WRITTEN = "rien n'a été écrit, le GX garde ses réglages"

log = logging.getLogger("tempo_ess")

# What is said at these levels stands in the push, or makes one due, or neither:
#
#   level           stands in the push   makes a push due
#   INFO            no                   no
#   RESULT          yes                  no
#   NEWS            yes                  yes
#   WARNING, ERROR  yes                  yes
RESULT = logging.INFO + 1
NEWS = logging.INFO + 2


class Voice(logging.Handler):
    """Keeps what is said, so that the push says what the terminal says."""

    def __init__(self) -> None:
        super().__init__(RESULT)
        self.said: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record)

    def has_news(self) -> bool:
        """Whether a push is due: a change of colour, a warning or a failure was said."""
        return any(record.levelno >= NEWS for record in self.said)

    def text(self) -> str:
        """A line for each thing said: the failure, the news, the results, the warnings."""
        lines = []
        for level in (logging.ERROR, NEWS, RESULT, logging.WARNING):
            prefix = f"{logging.getLevelName(level)} : " if level >= logging.WARNING else ""
            of_level = (record for record in self.said if record.levelno == level)
            lines += [prefix + record.getMessage() for record in of_level]
        return "\n".join(lines)


def open_output() -> Voice:
    """Send warnings and errors to stderr and the rest to stdout; keep what may be pushed.

    What cannot be written (full disk, closed pipe) never stops a run.
    """
    logging.raiseExceptions = False
    logging.addLevelName(logging.WARNING, "attention")
    logging.addLevelName(logging.ERROR, "erreur")
    out = logging.StreamHandler(sys.stdout) if sys.stdout else logging.NullHandler()
    out.setLevel(logging.INFO)
    out.addFilter(lambda record: record.levelno < logging.WARNING)
    err = logging.StreamHandler(sys.stderr)
    err.setLevel(logging.WARNING)
    err.setFormatter(logging.Formatter("%(levelname)s : %(message)s"))
    voice = Voice()
    log.handlers = [out, err, voice]
    log.setLevel(logging.DEBUG)
    return voice


def set_stdout_level(level: int) -> None:
    """Say on stdout what has this level, or more."""
    log.handlers[0].setLevel(level)  # the one that open_output put first


def printable(text: object) -> str:
    """Text that came from a peer, fit for a terminal: at most 40 of its characters, escaped."""
    return ascii(str(text)[:40])[1:-1]


# ---- TEMPO ---------------------------------------------------------------------------------------


class Couleur(StrEnum):
    """The colour of a TEMPO day, which runs from 06:00 to 06:00; the cheapest first."""

    BLEU = "BLEU"
    BLANC = "BLANC"
    ROUGE = "ROUGE"


class Periode(StrEnum):
    """HP from 06:00 to 22:00, HC from 22:00 to 06:00, on the meter's clock."""

    HP = "HP"
    HC = "HC"


class Tempo(NamedTuple):
    """What the decision rests on; demain is None while it is not announced."""

    aujourdhui: Couleur
    demain: Couleur | None
    periode: Periode


def paris_now() -> datetime:
    """The time in Europe/Paris, whatever the machine's zone."""
    return datetime.now(PARIS)


def is_night(now: datetime) -> bool:
    """Whether the Paris clock says HC."""
    return now.hour >= 22 or now.hour < 6


def tempo_days(now: datetime) -> tuple[str, str]:
    """The civil dates of the TEMPO day in force and of the next one, like 2026-11-24."""
    today = (now - timedelta(hours=6)).date()
    return str(today), str(today + timedelta(days=1))


def is_tomorrow_settled(now: datetime) -> bool:
    """Whether the web's word for tomorrow counts: from 12:00 until the TEMPO day ends at 06:00.

    RTE's choice binds at 10:30; changes were seen until 11:15 [rte-tempo #5].
    """
    return now.hour >= 12 or now.hour < 6


# ---- Settings of the GX --------------------------------------------------------------------------
# tests/FACTS.md has the sources.

Value = float | str

# BatteryLife/State: a person chooses on, off or Keep batteries charged; the GX itself moves 1 to
# 2..8, and 10 to 11 or 12. Only STATE_ON and STATE_OFF are written.
STATE_ON = 1
STATE_KEEP_CHARGED = 9
STATE_OFF = 10
STATES_ON = range(1, 9)
STATES_OFF = range(10, 13)
HUB4_EXTERNAL = 3
EVERY_DAY = 7
RELAY_MANUAL = 2  # a relay's Function on the GX: with another one a write does not hold


def percent(value: Value) -> str:
    """30.0 as 30 %."""
    return f"{value:g} %"


def hours(seconds: Value) -> str:
    """28800 as 8 h."""
    return f"{float(seconds) / 3600:g} h"


def from_table(words: Mapping[Any, str]) -> Callable[[Value], str]:
    """A function that looks a value up in this table; one that is not there is shown as it is."""
    return lambda value: words.get(value, printable(value))


def same_mode(one: Value, other: Value) -> bool:
    """Whether two States of BatteryLife are the same mode; one outside 1..12 is like no other.

    They are never compared as integers: to write the mode that the GX is in already would disturb
    its state machine.
    """
    modes = (STATES_ON, [STATE_KEEP_CHARGED], STATES_OFF)
    return any(one in mode and other in mode for mode in modes)


def battery_life_state(is_on: bool) -> int:
    """The State that turns BatteryLife on or off."""
    return STATE_ON if is_on else STATE_OFF


def is_off(day: Value | None) -> bool:
    """Whether a schedule with this Day is switched off: any negative value says so."""
    return isinstance(day, int | float) and day < 0


def day_words(day: Value) -> str:
    """7 as tous les jours."""
    return "inactif" if is_off(day) else DAY_WORDS.get(day, printable(day))


class Setting(NamedTuple):
    """A value on the GX: R/<sn>/<path> asks for it, N/... tells it, W/... sets it."""

    path: str
    label: str
    words: Callable[[Value], str]  # the value for a person
    same: Callable[[Value, Value], bool] = operator.eq  # 30.0 is 30
    to_gx: Callable[[Any], int] = int  # what is written for a value of secret.py
    is_text: bool = False  # else its values are numbers

    def text(self, value: Value | None) -> str:
        """The value for a person; ? for one that is not known."""
        return "?" if value is None else self.words(value)


STATE_WORDS = {
    **dict.fromkeys(STATES_ON, "on"),
    STATE_KEEP_CHARGED: "Maintenir les batteries chargées",
    **dict.fromkeys(STATES_OFF, "off"),
}
HUB4_WORDS = {1: "ESS", 2: "ESS", HUB4_EXTERNAL: "contrôle externe"}
DAY_WORDS: dict[Value, str] = {
    0: "dimanche",
    1: "lundi",
    2: "mardi",
    3: "mercredi",
    4: "jeudi",
    5: "vendredi",
    6: "samedi",
    EVERY_DAY: "tous les jours",
    8: "lundi à vendredi",
    9: "samedi et dimanche",
    11: "une fois par mois",
}
CHARGE_WORDS = {0: "aucune plage ouverte", 1: "plage ouverte"}
CHARGE_STATUS_WORDS = {
    0: "prêt",
    1: "pas d'assistant ESS",
    2: "SoC de la batterie inconnu",
    3: "Maintenir les batteries chargées (Keep batteries charged)",
    4: "Dynamic ESS ?",  # blocked by another controller
}
RELAY_WORDS = {0: "ouvert", 1: "fermé"}
FUNCTION_WORDS = {-1: "désactivée", 0: "alarme", RELAY_MANUAL: "manuel"}

CGWACS = "settings/0/Settings/CGwacs/"
SCHEDULES = f"{CGWACS}BatteryLife/Schedule/Charge/"

SOC = Setting(f"{SCHEDULES}0/Soc", "Schedule 1 SoC", percent)
MIN_SOC = Setting(f"{CGWACS}BatteryLife/MinimumSocLimit", "MinSoc", percent)
BATTERY_LIFE = Setting(
    f"{CGWACS}BatteryLife/State",
    "BatteryLife",
    from_table(STATE_WORDS),
    same=same_mode,
    to_gx=battery_life_state,
)
# The settings that follow tomorrow's colour, and how their variables in secret.py begin. One more
# needs its Setting above, its row here, its three variables in Config and its lines in
# secret.py.example; it will be written in HC (target_settings keeps only SOC in HP).
PROFILE = {SOC: "chg", MIN_SOC: "min", BATTERY_LIFE: "bl"}


def variable_name(setting: Setting, couleur: Couleur) -> str:
    """Like chgbleu."""
    return PROFILE[setting] + couleur.lower()


DAY = Setting(f"{SCHEDULES}0/Day", "Schedule 1 Day", day_words)
HUB4_MODE = Setting(f"{CGWACS}Hub4Mode", "mode ESS (Hub4Mode)", from_table(HUB4_WORDS))
# The GX's own word on tonight's charge; CHARGE_STATUS exists since Venus 3.60.
CHARGE = Setting(
    "system/0/Control/ScheduledCharge", "charge de cette nuit", from_table(CHARGE_WORDS)
)
CHARGE_STATUS = Setting(
    "system/0/Control/ScheduledChargeStatus",
    "charge programmée",
    from_table(CHARGE_STATUS_WORDS),
)
RELAYS = {
    1: Setting("system/0/Relay/0/State", "Relais 1", from_table(RELAY_WORDS)),
    2: Setting("system/0/Relay/1/State", "Relais 2", from_table(RELAY_WORDS)),
}
RELAY_FUNCTIONS = {
    1: Setting(
        "settings/0/Settings/Relay/Function", "fonction relais 1", from_table(FUNCTION_WORDS)
    ),
    2: Setting(
        "settings/0/Settings/Relay/1/Function", "fonction relais 2", from_table(FUNCTION_WORDS)
    ),
}

# Where the owner finds them on a GX set to French, its spelling included; English in brackets.
ESS_MENU = "Paramètres > Configuration Système > ESS"
SCHEDULES_MENU = f"{ESS_MENU} > Niveaux de charge plannifiés (Scheduled charge levels)"
SCHEDULE_MENU = f"{SCHEDULES_MENU} > Programme 1 (Schedule 1)"
RELAY_ADVICE = (
    "l'écriture ne tient pas : Paramètres > Intégrations > Relais > Fonction, Manuel"
    " (Settings > Integrations > Relays > Function, Manual)"
)

Values = dict[Setting, Value]  # as they are on the GX
Target = dict[Setting, int]  # as they are written


# ---- Configuration -------------------------------------------------------------------------------


class Rule(NamedTuple):
    """What a variable of secret.py must be: a test of its value, and the same in French."""

    accepts: Callable[[Any], bool]
    wanted: str
    is_secret: bool = False  # its value is never shown


def variable(
    default: object, accepts: Callable[[Any], bool], wanted: str, is_secret: bool = False
) -> Any:
    """A field of Config, with its default and its rule; RULES, below Config, has them by name."""
    return field(default=default, metadata={"rule": Rule(accepts, wanted, is_secret)})


def any_text(is_secret: bool = False) -> Any:
    """Any text; empty by default."""
    return variable(
        "",
        lambda value: isinstance(value, str) and value.isprintable(),
        "un texte entre guillemets droits, sans caractère invisible",
        is_secret,
    )


def text_like(pattern: str, wanted: str, default: str = "") -> Any:
    """A text that has this pattern."""
    return variable(
        default,
        lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None,
        wanted,
    )


def choice(default: bool) -> Any:
    """True or False."""
    return variable(default, lambda value: isinstance(value, bool), "True ou False")


def whole(low: int, high: int, default: int | None) -> Any:
    """A whole number from low to high."""
    return variable(
        default,
        lambda value: type(value) is int and low <= value <= high,
        f"un nombre entier de {low} à {high}, sans guillemets",
    )


def one_or_two(default: int | None) -> Any:
    """1 or 2: an input, or a relay."""
    return variable(default, lambda value: type(value) is int and value in (1, 2), "1 ou 2")


def percentage(default: int) -> Any:
    """A percentage that a battery can be asked for: 10 to 100."""
    return whole(10, 100, default)


def is_address(value: object) -> bool:
    """Whether it can be a host name, or an address, with a port or without."""
    return isinstance(value, str) and re.fullmatch(r"[^\s,/@\\]+", value) is not None


def is_gx_address(value: object) -> bool:
    """Whether it can be a host name, or an address, without a port.

    Exactly one colon means name:port; an IPv6 address has more, and brackets only with a port.
    """
    return is_address(value) and str(value).count(":") != 1 and "[" not in str(value)


def are_colours(value: object) -> bool:
    """Whether it is a list of colours; an empty one is."""
    return isinstance(value, list) and all(colour in list(Couleur) for colour in value)


ADDRESS = 'une adresse avec des points, sans virgule ni http://, comme "192.168.1.50", ou un nom'
TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]"
USE_ECO_HINT = "sans EcoDevice, enlevez le # devant use_eco et mettez False"
GX_ACCESS = ("gx", "gxport", "gxtls", "gxcert", "gxuser", "gxpassword")  # how it is reached


@dataclass(frozen=True)
class Config:
    """The variables of secret.py. One that is missing there, empty or None has its default."""

    ecodevice: str = variable("", is_address, f"{ADDRESS}, avec :port si besoin ({USE_ECO_HINT})")
    ecouser: str = any_text()
    ecopassword: str = any_text(is_secret=True)
    ecoinput: int = one_or_two(1)
    use_eco: bool = choice(True)
    use_api: bool = choice(True)
    gx: str = variable("", is_gx_address, f"{ADDRESS}, sans port (il se met dans gxport)")
    gxsn: str = text_like(
        "[0-9A-Fa-f]{12}",
        "l'ID Portail VRM du GX, 12 chiffres ou lettres de a à f entre guillemets",
    )
    gxport: int | None = whole(1, 65535, None)
    gxtls: bool = choice(False)
    gxcert: str = any_text()
    gxuser: str = any_text()
    gxpassword: str = any_text(is_secret=True)
    prowlkey: str = any_text(is_secret=True)
    chgbleu: int = percentage(80)
    chgblanc: int = percentage(90)
    chgrouge: int = percentage(100)
    minbleu: int = percentage(30)
    minblanc: int = percentage(30)
    minrouge: int = percentage(25)
    blbleu: bool = choice(True)
    blblanc: bool = choice(True)
    blrouge: bool = choice(False)
    relais: int | None = one_or_two(None)
    relais_couleurs: Collection[str] = variable(
        ("BLANC", "ROUGE"), are_colours, 'une liste de couleurs comme ["BLANC", "ROUGE"]'
    )
    relais_debut: str = text_like(TIME, 'une heure comme "06:00"', "06:00")
    relais_fin: str = text_like(TIME, 'une heure comme "22:00"', "22:00")

    def profile(self, couleur: Couleur) -> Target:
        """What the GX holds on a day of this colour, as it is written."""
        return {
            setting: setting.to_gx(getattr(self, variable_name(setting, couleur)))
            for setting in PROFILE
        }

    def port(self) -> int:
        """The port of the GX's broker."""
        return self.gxport or (8883 if self.gxtls else 1883)

    def broker(self) -> str:
        """The address and port of the GX's broker, an IPv6 address in brackets."""
        address = self.gx or "ADRESSE_DU_GX"
        if ":" in address:
            address = f"[{address}]"
        return f"{address}:{self.port()}"

    def certificate_command(self) -> str:
        """The command that fetches the GX's certificate."""
        return f"openssl s_client -connect {self.broker()} </dev/null | openssl x509 > gx.crt"


RULES: dict[str, Rule] = {one.name: one.metadata["rule"] for one in fields(Config)}

Problems = dict[str, str]  # sentences, by the variable's name or the line's number


def is_gx_access_sound(problems: Problems) -> bool:
    """Whether no problem touches how the GX is reached.

    With a wrong gxtls, say, the password would be sent unencrypted. A line that could not be read
    has a key like "ligne 3", which is not in RULES: it may have been gxtls, so it counts.
    """
    return all(name in RULES and name not in GX_ACCESS for name in problems)


def pinned_context(cert: str) -> ssl.SSLContext:
    """TLS that trusts this one certificate; OSError or ValueError when the file is not one.

    The GX's is self-signed, CN=venus.local, without SAN, so a name check is impossible. Not
    create_default_context, which grows stricter (VERIFY_X509_STRICT from Python 3.13 on).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cert)
    return context


def read_text(path: Path) -> str:
    """The text of secret.py. May raise Failure: it is absent, unreadable or no UTF-8."""
    try:
        content = path.read_bytes()
        if b"\0" in content:  # as in UTF-16
            raise UnicodeError
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        trouble = f"{path} est absent : copiez secret.py.example et remplissez-le"
    except PermissionError:
        trouble = (
            f"{path} appartient à un autre utilisateur, ou ne vous est pas ouvert :"
            " lancez le script sous le nom de son propriétaire, ou chmod 600"
        )
    except OSError:
        trouble = f"{path} n'est pas un fichier qui peut être lu"
    except UnicodeError:
        trouble = f"{path} n'est pas un texte en UTF-8 : réenregistrez-le dans ce codage"
    raise Failure(trouble, Exit.USAGE)


PLAIN_LINE = (
    "il faut « nom = valeur », et comme valeur un texte entre guillemets droits, un nombre"
    " sans %, True, False, None ou une liste de ces valeurs"
)


def read_assignments(path: Path) -> tuple[dict[str, Any], Problems]:
    """The names of secret.py with their values, and a problem for each line that is no assignment.

    It is read as data and never executed. A line is named by its number and not quoted, nor are
    Python's own words, since both can show a key. May raise Failure: it cannot be read at all.
    """
    source = read_text(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # they quote the line
            statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        raise Failure(
            f"{path}, ligne {line} : mal écrit (guillemet courbe ou oublié, espace insécable ou"
            f" devant un nom, nombre avec % ?) ; pour y aller : nano +{line} {path}",
            Exit.USAGE,
        ) from None
    names: dict[str, Any] = {}
    problems: Problems = {}
    for statement in statements:
        match statement:
            case ast.Expr(value=ast.Constant(value=str())):
                continue  # a text alone, like a docstring
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                try:
                    names[name] = ast.literal_eval(value)
                except (ValueError, TypeError, RecursionError, MemoryError):
                    problems[name] = f"ligne {statement.lineno} : {PLAIN_LINE}"
            case _:
                place = f"ligne {statement.lineno}"
                problems[place] = f"{place} : {PLAIN_LINE}"
    return names, problems


def add_joint_problems(config: Config, problems: Problems) -> None:
    """Add to the problems what is missing, and the values that do not go together."""
    needed = ["gx", "gxsn"]
    if config.use_eco:
        needed.append("ecodevice")
    for name in needed:
        if not getattr(config, name) and name not in problems:
            problems[name] = f"{name} manque : il faut {RULES[name].wanted}"
    if not config.use_eco and not config.use_api:
        problems["use_api"] = "use_eco = False, use_api = False : il faut True à l'un des deux"
    for couleur in Couleur:
        profile = config.profile(couleur)
        chg, min_ = variable_name(SOC, couleur), variable_name(MIN_SOC, couleur)
        if profile[MIN_SOC] > profile[SOC] and not problems.keys() & {chg, min_}:
            given = f"{min_} = {profile[MIN_SOC]}"
            problems[min_] = f"{given} : il faut au plus {chg} = {profile[SOC]}"
    debut, fin = config.relais_debut, config.relais_fin  # two digits each, so texts compare
    if debut >= fin and not problems.keys() & {"relais_debut", "relais_fin"}:
        given = f"relais_debut = {debut}"
        problems["relais_debut"] = f"{given} : il faut une heure avant relais_fin = {fin}"
    if config.gxtls and "gxcert" not in problems:
        try:
            pinned_context(config.gxcert)
        except (OSError, ValueError):
            problems["gxcert"] = (
                f"gxcert = {config.gxcert!r} :"
                f" il faut le certificat du GX, obtenu par {config.certificate_command()}"
            )


def misspelt(names: Collection[str]) -> list[str]:
    """A question for each name that looks like one of ours."""
    hints = []
    for name in names:
        if name in RULES:
            continue
        near = difflib.get_close_matches(name.lower(), RULES, n=1, cutoff=0.75)
        if near:
            hints.append(f"{name} inconnu : vouliez-vous dire {near[0]} ?")
    return hints


def stripped(value: Any) -> Any:
    """A text, or the texts of a list, without the spaces around it; any other value as it is."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return [stripped(one) for one in value]
    return value


def read_config(path: Path) -> tuple[Config, Problems, list[str]]:
    """The configuration, with defaults for what is missing or wrong; all problems; the hints.

    May raise Failure: secret.py cannot be read.
    """
    names, problems = read_assignments(path)
    right: dict[str, Any] = {}
    for name, rule in RULES.items():
        value = stripped(names.get(name))
        if value is None or value == "":  # not set
            continue
        if rule.accepts(value):
            right[name] = value
        else:
            has_login = isinstance(value, str) and "@" in value  # http://user:password@address
            is_secret = rule.is_secret or has_login
            given = "(masqué)" if is_secret else repr(value)[:40]
            problems[name] = f"{name} = {given} : il faut {rule.wanted}"
    config = Config(**right)
    config = replace(config, gxsn=config.gxsn.lower())
    if config.gxcert:
        config = replace(config, gxcert=str(path.parent / config.gxcert))
    add_joint_problems(config, problems)
    return config, problems, misspelt(names)


def list_problems(path: Path, problems: Problems) -> str:
    """All of them, a line each."""
    lines = "\n  ".join(problems.values())
    return f"{path} est à corriger, rien n'a été contacté :\n  {lines}"


# ---- Decision: no clock, no log, no network ------------------------------------------------------


def target_settings(tempo: Tempo, config: Config, now: datetime) -> Target:
    """What the GX is to hold after a run at this Paris time.

    HP: the charge alone, since raising MinSoc or turning BatteryLife on can start a recharge at
    peak price. HC: all three. While demain is unknown today's colour counts, which costs little
    (many meters never announce a blue day), and in HC the charge is left alone. Every run sets the
    relay, if there is one; cron then also runs after relais_debut and relais_fin (crontab.example).
    """
    target = config.profile(tempo.demain or tempo.aujourdhui)
    if tempo.periode is Periode.HP:
        target = {SOC: target[SOC]}
    elif tempo.demain is None:
        # The 20:05 run may have known tomorrow's colour (for instance from the web, down since), so
        # the charge that it wrote is kept. If it was missed, the charge of the evening before is as
        # good a guess as today's colour.
        del target[SOC]
    if config.relais:
        in_time = config.relais_debut <= now.strftime("%H:%M") < config.relais_fin
        closed = in_time and tempo.aujourdhui in config.relais_couleurs
        target[RELAYS[config.relais]] = int(closed)
    return target


def foreign_changes(written: Target, todays_profile: Target, before: Values) -> list[str]:
    """A sentence for each setting that this run wrote and that held a stranger's value before.

    Two values are not a stranger's: that of today's profile, since yesterday evening's run wrote it
    (today was its tomorrow); and the target. (How can a setting be written that held the target
    already? `before` is the first answer of the run. When the GX then restarts and loses that
    value, a later try writes it.)
    """
    remarks = []
    for setting, expected in todays_profile.items():
        if setting not in written or setting not in before:
            continue
        was = before[setting]
        is_todays = setting.same(was, expected)
        is_target = setting.same(was, written[setting])
        if not is_todays and not is_target:
            remarks.append(
                f"{setting.label} était à {setting.text(was)} au lieu de {setting.text(expected)} :"
                " changé à la main, par un autre programme (evcc, VRM), ou une soirée manquée ?"
            )
    return remarks


class Outcome(StrEnum):
    """What became of one setting in this run."""

    IN_PLACE = "déjà en place"
    CONFIRMED = "confirmé"
    PUBLISHED = "publié, non confirmé"
    NOT_HELD = "non tenu"
    NOT_WRITTEN = "non écrit"
    SILENT = "ne répond pas"
    NO_VALUE = "sans valeur"
    OWNERS_CHOICE = "laissé tel quel"


def is_change_to_announce(
    tempo: Tempo, outcomes: Mapping[Setting, Outcome], has_failed: bool
) -> bool:
    """Whether a change of colour is news.

    In HP always, even when nothing had to change: the owner hears what the night will bring. (One
    more run in HP, for the relay, repeats it.) In HC when the run changed something. And after a
    failure, for the owner wants to know what tomorrow would have needed.
    """
    if tempo.demain is None or tempo.demain is tempo.aujourdhui:
        return False
    if tempo.periode is Periode.HP or has_failed:
        return True
    changed = (Outcome.CONFIRMED, Outcome.PUBLISHED)
    return any(outcomes.get(setting) in changed for setting in PROFILE)


def why_no_charge(values: Values, now: datetime) -> str | None:
    """A sentence when the GX says that tonight's charge has not begun, though it should have.

    All settings can be right and still nothing charges (day, hours, the GX's zone or clock, Dynamic
    ESS, no ESS assistant): only the GX's own word proves it. None by day; where the GX does not
    know the path or was not asked (in HP); and where the owner chose so: Schedule 1 off, Keep
    batteries charged, external control.
    """
    chosen = (
        is_off(values.get(DAY))
        or values.get(BATTERY_LIFE) == STATE_KEEP_CHARGED
        or values.get(HUB4_MODE) == HUB4_EXTERNAL
    )
    if values.get(CHARGE) != 0 or chosen or not is_night(now):
        return None
    status = values.get(CHARGE_STATUS, 0)
    reason = f" ({CHARGE_STATUS.text(status)})" if status else ""
    return f"Schedule 1 ne s'est pas ouvert : rien ne se charge cette nuit{reason}"


# ---- Waiting and HTTP ----------------------------------------------------------------------------

# Seconds. A whole run ends in 5 minutes: EcoDevice 30, web 3 x 15, GX 150 (GX_WORK), Prowl 15.
ECODEVICE_TRIES = 3
ECODEVICE_TRY = 8.0
ECODEVICE_PAUSE = 2.0  # polls closer than that make it unstable [Domoticz]
WEB_TIMEOUT = 15.0
PROWL_TIMEOUT = 15.0
MAX_BODY = 64 * 1024  # bytes taken of an HTTP answer
USER_AGENT = f"tempo_ess/{__version__}"  # one source refuses requests' own [hass-tarif-edf #25]


def bounded(seconds: float, call: Callable[[], Any]) -> Any:
    """The result of call(), or TimeoutError after so many seconds, while it goes on in a thread.

    For whatever cannot be trusted to return: DNS, a body that drips, pyprowl.
    """
    outcome: Future[Any] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return outcome.result(seconds)


FRENCH_CAUSES = (  # the first that fits: most of them are kinds of OSError
    (requests.exceptions.InvalidURL, "adresse mal écrite"),
    (UnicodeError, "adresse mal écrite"),  # 192.168.1..5
    (socket.gaierror, "nom inconnu du réseau"),
    (TimeoutError, "pas de réponse à temps"),
    (ConnectionRefusedError, "connexion refusée"),
    (ConnectionError, "connexion coupée"),
    (ssl.SSLError, "échec TLS"),
    (OSError, "appareil ou réseau injoignable"),
)


def french_cause(error: BaseException) -> str:
    """French words for a peer's failure.

    Never the error's own words, which can hold a key or the peer's bytes. requests wraps urllib3's
    error, which wraps the socket's: the oldest one, by Python's __context__, is the cause. (Only
    InvalidURL says more than what it wraps.) Call it only inside a function that `bounded` runs.
    Elsewhere Python would set the `__context__` of the oldest error to whatever the caller's
    `except` is handling, and that unrelated error would be told. A new thread is in no `except`.
    """
    origin = error
    while origin.__context__ and not isinstance(origin, requests.exceptions.InvalidURL):
        origin = origin.__context__
    for kind, words in FRENCH_CAUSES:
        if isinstance(origin, kind):
            return words
    return "réponse inattendue"


class Session(requests.Session):
    """A session with our name that knows no redirects.

    With allow_redirects=False requests would still read the whole body of one, and trip over its
    Location.
    """

    def __init__(self) -> None:
        super().__init__()
        self.headers["User-Agent"] = USER_AGENT

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: there is nowhere to go."""


def fetch_json(
    url: str, seconds: float, session: Session, hint: str = "", hint_401: str = ""
) -> Any:
    """The JSON value at url, got within so many seconds. May raise NoAnswer.

    At most 64 KiB of a 200 are taken, redirects are not followed. hint, hint_401: what to say
    besides the cause when no answer can be had, or when it is a 401.
    """

    def get() -> object:
        try:
            with session.get(url, timeout=seconds, stream=True) as answer:
                status = answer.status_code
                if status != 200:
                    told = f"réponse HTTP {status}{hint_401 if status == 401 else ''}"
                    raise NoAnswer(told, again=status >= 500)
                body = b""
                for chunk in answer.iter_content(4096):
                    body += chunk
                    if len(body) >= MAX_BODY:
                        break
            # strict: an EcoDevice's text may hold a raw newline [Aohzan/ecodevices #32].
            return json.loads(body[:MAX_BODY].decode("utf-8-sig", "replace"), strict=False)
        except (OSError, ValueError, RecursionError) as error:
            raise NoAnswer(f"{french_cause(error)}{hint}", again=True) from None

    log.debug(f"HTTP GET {url}")
    try:
        return bounded(seconds, get)
    except TimeoutError:
        raise NoAnswer(f"pas de réponse à temps{hint}", again=True) from None


# ---- Colours: the meter --------------------------------------------------------------------------

PTEC = {
    "HPJB": (Couleur.BLEU, Periode.HP),
    "HCJB": (Couleur.BLEU, Periode.HC),
    "HPJW": (Couleur.BLANC, Periode.HP),
    "HCJW": (Couleur.BLANC, Periode.HC),
    "HPJR": (Couleur.ROUGE, Periode.HP),
    "HCJR": (Couleur.ROUGE, Periode.HC),
}
# DEMAIN has 4 characters [Enedis NOI-CPT_54E].
DEMAIN = {
    "BLEU": Couleur.BLEU,
    "BLAN": Couleur.BLANC,
    "ROUG": Couleur.ROUGE,
}
NO_PTEC = "----"
ECODEVICE_PRODUCT = "Eco-devices"
CONTRATS = {
    "TH..": "Base",
    "HC..": "heures creuses",
    "HP..": "heures creuses",
    "HN..": "EJP",
    "PM..": "EJP",
}


def parse_meter(answer: object, ecoinput: int, now: datetime) -> Tempo:
    """The colours and the period in an EcoDevice v1's answer.

    May raise NoAnswer (no TEMPO code, or one that cannot be true) or Failure (another contract).
    A DEMAIN that is not exactly a colour is not announced: never BLEU, never a guess.
    """
    if not isinstance(answer, dict):
        raise NoAnswer("réponse d'une autre forme", again=True)
    ptec = str(answer.get(f"T{ecoinput}_PTEC"))
    product = answer.get("product", ECODEVICE_PRODUCT)
    if ptec not in PTEC and product != ECODEVICE_PRODUCT:
        raise NoAnswer(f"{printable(product)} : ce n'est pas un EcoDevice v1")
    if ptec in CONTRATS:
        raise Failure(
            f"le contrat du compteur est {CONTRATS[ptec]} (PTEC {ptec}), pas TEMPO :"
            " vérifiez l'abonnement, ou ecoinput dans secret.py",
            Exit.COLOUR,
        )
    if ptec not in PTEC:
        raise NoAnswer(
            f"pas de code TEMPO (PTEC {printable(ptec)}) : téléinfo débranchée, EcoDevice qui vient"
            " de redémarrer, mauvais ecoinput, ou TIC du compteur en mode standard (Enedis la remet"
            " en mode historique)",
            again=ptec == NO_PTEC,
        )
    aujourdhui, periode = PTEC[ptec]
    if periode is Periode.HC and 10 <= now.hour < 21:
        # HC ends by 06:38, or by 09:30 on the slowest meter clock on record, and begins at 22:00,
        # or at 21:00 on a clock an hour fast [rtetempo #34, Zlinky_TIC #219]. So this reader stands
        # still, as some did for days [Zlinky_TIC #298, #348].
        raise NoAnswer(
            f"PTEC {ptec} à {now:%H:%M}, en pleines heures pleines :"
            " téléinfo figée, ou une horloge fausse ?"
        )
    return Tempo(aujourdhui, DEMAIN.get(str(answer.get(f"T{ecoinput}_DEMAIN"))), periode)


def read_meter(config: Config, now: datetime) -> Tempo:
    """The colours and the period from the EcoDevice, in three tries.

    May raise NoAnswer or Failure.
    """
    session = Session()
    session.trust_env = False  # a device on the LAN: no proxy
    if config.ecouser:
        # Encoded as browsers do; requests would take Latin-1.
        session.auth = requests.auth.HTTPBasicAuth(
            config.ecouser.encode(), config.ecopassword.encode()
        )
    url = f"http://{config.ecodevice}/api/xdevices.json?cmd=10"
    hint = ", est-il allumé, et ecodevice juste ?"
    hint_401 = ", vérifiez ecouser et ecopassword dans secret.py"
    tries = 1
    while True:
        try:
            answer = fetch_json(url, ECODEVICE_TRY, session, hint, hint_401)
            return parse_meter(answer, config.ecoinput, now)
        except NoAnswer as failure:
            if tries == ECODEVICE_TRIES or not failure.again:
                raise
        tries += 1
        time.sleep(ECODEVICE_PAUSE)


# ---- Colours: the web ----------------------------------------------------------------------------

Calendar = dict[str, Couleur]  # by civil date, like 2026-11-24; a day that is not known is absent

RTE_CODES = {
    "BLUE": Couleur.BLEU,
    "WHITE": Couleur.BLANC,
    "RED": Couleur.ROUGE,
}
EDF_CODES = {f"TEMPO_{couleur}": couleur for couleur in Couleur}
API_CODES = {
    "1": Couleur.BLEU,
    "2": Couleur.BLANC,
    "3": Couleur.ROUGE,
}


def parse_rte(answer: Any) -> Calendar:
    """The colours in RTE's tempoLight; a day whose -fallback is "true" is not known by RTE.

    That is its degraded mode [rtetempo #22, #60].
    """
    values = answer["values"]
    return {
        day: RTE_CODES[code]
        for day, code in values.items()
        if code in RTE_CODES and values.get(f"{day}-fallback") not in ("true", True)
    }


def parse_edf(answer: Any) -> Calendar:
    """The colours in EDF's calendar; NON_DEFINI is not announced."""
    days = answer["content"]["options"][0]["calendrier"]  # of the one option that was asked for
    return {
        day["dateApplication"]: EDF_CODES[day["statut"]]
        for day in days
        if day["statut"] in EDF_CODES
    }


def parse_api(answer: Any) -> Calendar:
    """The colours in api-couleur-tempo.fr's list of days; 0 is "unknown"."""
    return {
        day["dateJour"]: API_CODES[str(day["codeJour"])]
        for day in answer
        if str(day["codeJour"]) in API_CODES
    }


class WebSource(NamedTuple):
    """A calendar on the web, asked once for both days."""

    name: str
    address: str  # with the two days in it
    parse: Callable[[Any], Calendar]
    headers: Mapping[str, str] = {}


# In the order of asking; one more takes its WEB_TIMEOUT seconds of the run's 5 minutes.
WEB_SOURCES = [
    WebSource("RTE", "https://www.services-rte.com/cms/open_data/v1/tempoLight", parse_rte),
    # The supplier's own calendar, as its customer site asks for it: independent of RTE's file, but
    # undocumented, so it may change.
    WebSource(
        "EDF",
        "https://api-commerce.edf.fr/commerce/activet/v1/calendrier-jours-effacement?option=TEMPO"
        "&dateApplicationBorneInf={day}&dateApplicationBorneSup={next_day}"
        "&identifiantConsommateur=src",
        parse_edf,
        {"Application-Origine-Controlee": "site_RC", "Situation-Usage": "Jours Effacement"},
    ),
    WebSource(
        "api-couleur-tempo.fr",
        "https://www.api-couleur-tempo.fr/api/joursTempo?dateJour[]={day}&dateJour[]={next_day}",
        parse_api,
    ),
]


def ask_web_source(source: WebSource, now: datetime) -> Calendar:
    """The days that this source knows. May raise NoAnswer."""
    day, next_day = tempo_days(now)
    session = Session()
    session.headers.update(source.headers)
    url = source.address.format(day=day, next_day=next_day)
    answer = fetch_json(url, WEB_TIMEOUT, session)
    try:
        return source.parse(answer)
    except (LookupError, TypeError, AttributeError):  # over which a parser trips
        raise NoAnswer("réponse d'une autre forme") from None


class Claim(NamedTuple):
    """A colour, and the source that names it."""

    couleur: Couleur
    source: str


def ask_web(wanted: Collection[str], now: datetime) -> tuple[dict[str, Claim], list[str]]:
    """What the web says of the wanted days; and a reason for each source that does not know them.

    One source after the other is asked, until all wanted days are known.
    """
    claims: dict[str, Claim] = {}
    reasons = []
    for source in WEB_SOURCES:
        missing = [day for day in wanted if day not in claims]
        if not missing:
            break
        try:
            calendar = ask_web_source(source, now)
        except NoAnswer as failure:
            reasons.append(f"{source.name} : {failure}")
            continue
        claims |= {day: Claim(calendar[day], source.name) for day in missing if day in calendar}
        unknown = [day for day in missing if day not in calendar]
        if unknown:
            reasons.append(f"{source.name} : ne connaît pas le {' ni le '.join(unknown)}")
    return claims, reasons


# ---- Colours: this evening's ---------------------------------------------------------------------

IMPOSED = "imposée"
METER = "EcoDevice"
CLOCK = "horloge"
UNKNOWN_TOMORROW = "couleur de demain non annoncée, on garde celle du jour"


class Imposed(NamedTuple):
    """What the owner gives on the command line instead of the sources."""

    aujourdhui: Couleur | None
    demain: Couleur | None
    periode: Periode | None

    def is_trial(self) -> bool:
        """Whether --today and --period are both given.

        Then nobody is asked, not even for demain: a trial shows the same at any hour.
        """
        return self.aujourdhui is not None and self.periode is not None


class Evening(NamedTuple):
    """The colours and the period, and who gave each of them."""

    tempo: Tempo
    sources: dict[str, str]  # by Tempo's field names
    web_reasons: list[str]  # why sources on the web do not know what they were asked for
    was_web_asked: bool  # for tomorrow


def claim_of(source: str, couleur: Couleur | None) -> Claim | None:
    """The source's claim, if it names a colour."""
    return Claim(couleur, source) if couleur else None


def two_witnesses(meter: Claim | None, web: Claim | None) -> Claim | None:
    """Tomorrow's colour by the meter and by the web, as far as they know it.

    When they differ the dearer one counts, and a warning names both: a reader that froze at BLEU
    would lose a red day at every run, and a charge too many costs cents.
    """
    if meter is None or web is None:
        return meter or web
    if web.couleur is meter.couleur:
        return Claim(meter.couleur, f"{meter.source} et {web.source}")
    dearest = max(meter, web, key=lambda one: list(Couleur).index(one.couleur))
    log.warning(
        f"demain serait {meter.couleur} d'après le compteur ({meter.source}) et {web.couleur}"
        f" d'après {web.source} : le plus cher compte, {dearest.couleur}"
    )
    return dearest


def try_meter(config: Config, now: datetime) -> tuple[Tempo | None, str]:
    """What the meter says, else why it says nothing. May raise Failure: another contract."""
    try:
        return read_meter(config, now), ""
    except NoAnswer as failure:
        return None, f"{METER} ({config.ecodevice}) : {failure}"


def days_to_ask(imposed: Imposed, meter: Tempo | None, config: Config, now: datetime) -> list[str]:
    """The days that the web is asked for: tomorrow, and today when nobody else gives it."""
    day, next_day = tempo_days(now)
    wanted = []
    if config.use_api and not imposed.is_trial():
        if meter is None and imposed.aujourdhui is None:
            wanted.append(day)
        if imposed.demain is None and is_tomorrow_settled(now):
            wanted.append(next_day)
    return wanted


def read_evening(imposed: Imposed, config: Config, now: datetime) -> Evening:
    """The colours and the period: what the owner imposes, else what the meter and the web say.

    May raise Failure: nobody knows today's colour, or the meter's contract is another.
    """
    meter, meter_trouble = None, ""
    if config.use_eco and not imposed.is_trial():
        meter, meter_trouble = try_meter(config, now)
    wanted = days_to_ask(imposed, meter, config, now)
    web, web_reasons = ask_web(wanted, now)

    day, next_day = tempo_days(now)
    aujourdhui = (
        claim_of(IMPOSED, imposed.aujourdhui)
        or claim_of(METER, meter and meter.aujourdhui)
        or web.get(day)
    )
    if aujourdhui is None:
        reasons = " ; ".join(reason for reason in (meter_trouble, *web_reasons) if reason)
        raise Failure(
            f"couleur du jour inconnue ({reasons}) ; {NOTHING_WRITTEN} ;"
            " au besoin, imposez-la avec --today (README)",
            Exit.COLOUR,
        )
    if meter_trouble:
        stand_in = "le web et l'horloge le remplacent" if day in wanted else "on fait sans lui"
        log.warning(f"{meter_trouble} ; {stand_in}")
    demain = claim_of(IMPOSED, imposed.demain) or two_witnesses(
        claim_of(METER, meter and meter.demain), web.get(next_day)
    )
    periode, source_of_periode = read_periode(imposed, meter, now)
    tempo = Tempo(aujourdhui.couleur, demain and demain.couleur, periode)
    sources = {"aujourdhui": aujourdhui.source, "periode": source_of_periode}
    if demain:
        sources["demain"] = demain.source
    return Evening(tempo, sources, web_reasons, next_day in wanted)


def read_periode(imposed: Imposed, meter: Tempo | None, now: datetime) -> tuple[Periode, str]:
    """The period, and who gave it: the owner, the meter or the Paris clock."""
    if imposed.periode:
        return imposed.periode, IMPOSED
    if meter:
        return meter.periode, METER
    return (Periode.HC if is_night(now) else Periode.HP), CLOCK


def tell_evening(evening: Evening, now: datetime) -> None:
    """Say the colours and where they come from, and warn of what is odd, before any write."""
    tempo, sources = evening.tempo, evening.sources
    colours = f"aujourd'hui {tempo.aujourdhui} ({sources['aujourdhui']})"
    if tempo.demain:
        colours += f", demain {tempo.demain} ({sources['demain']})"
    log.info(f"TEMPO : {colours}, période {tempo.periode} ({sources['periode']})")
    if tempo.demain is None:
        tell_unknown_tomorrow(evening)
    elif evening.web_reasons:
        log.info(f"sans conséquence ce soir : {' ; '.join(evening.web_reasons)}")
    if sources["periode"] == METER and tempo.periode is Periode.HP and is_night(now):
        log.warning(
            "le compteur est encore en HP : dans la crontab, mettez la ligne de 22:02"
            " quelques minutes après le début de vos heures creuses"
        )
    if sources["periode"] == IMPOSED and tempo.periode is Periode.HC and not is_night(now):
        log.warning(
            "heures creuses imposées pendant les heures pleines :"
            " une recharge au prix fort peut commencer tout de suite"
        )


def tell_unknown_tomorrow(evening: Evening) -> None:
    """Say that today's colour is kept, as a warning when that may cost something.

    In the evening the web has known tomorrow for hours: if it does not, something is wrong, and
    tomorrow may be red. When it was not asked, an unknown tomorrow is usual after a blue day (many
    meters never announce one), and in HP the 22:02 run may know more.
    """
    text = UNKNOWN_TOMORROW
    if evening.web_reasons:
        text += f" ({' ; '.join(evening.web_reasons)})"
    may_cost = evening.tempo.periode is Periode.HC and evening.tempo.aujourdhui is not Couleur.BLEU
    if evening.was_web_asked or may_cost:
        log.warning(text)
    else:
        log.info(text)


# ---- GX, what is known ---------------------------------------------------------------------------


class Presence(Enum):
    """Who is on the broker.

    A test broker is one without a GX, on which somebody watches what the script writes (README).
    """

    OURS = auto()
    ANOTHER = auto()  # only another GX spoke: gxsn is wrong
    NOBODY = auto()  # nobody spoke: a test broker, or another GX that did not announce its serial
    MAY_BE_STARTING = auto()  # nobody spoke, but a try of this run failed, as on a GX that starts


class GxState:
    """What a run wants of the GX with this serial, heard of it and wrote. No broker here.

    `values` holds what is known now; the rest is kept for the whole run, over lost connections.
    """

    def __init__(self, serial: str, target: Target, read_only: Collection[Setting]) -> None:
        self.serial = serial
        self.target = target
        self.read_only = read_only
        self.topics = {f"N/{serial}/{one.path}": one for one in (*read_only, *target)}
        self.before: Values = {}  # the first answers of the run
        self.values: Values = {}
        self.without_value: set[Setting] = set()  # the GX has them, but not their value
        self.written: Target = {}  # in this run
        self.serials: set[str] = set()  # of every GX that sent a message
        self.lost_tries = 0

    def forget(self) -> None:
        """Drop what was answered or confirmed: it may no longer be true."""
        self.values.clear()
        self.without_value.clear()

    def hear(self, topic: str, payload: bytes, is_retained: bool) -> None:
        """Take in an N/ message.

        Any message shows that its GX is there. But a retained one (old Venus) or garbage is no
        answer, and an empty one takes the answer back: the settings service went away. null and []
        say that the setting is there without a value [core #174257, venus #936].
        """
        self.serials.add(topic.split("/")[1])
        setting = self.topics.get(topic)
        if setting is None or is_retained:
            return
        if not payload:
            self.values.pop(setting, None)
            self.without_value.discard(setting)
            return
        try:
            value = json.loads(payload)["value"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return
        if value is None or value == []:
            self.values.pop(setting, None)
            self.without_value.add(setting)
        elif is_value_of(setting, value):
            self.without_value.discard(setting)
            self.values[setting] = value
            self.before.setdefault(setting, value)

    def note_write(self, setting: Setting) -> None:
        """Remember that it was written; what it showed before counts no more."""
        self.written[setting] = self.target[setting]
        self.values.pop(setting, None)

    def has_answered(self, setting: Setting) -> bool:
        """Whether the GX has said its value, or that it has none."""
        return setting in self.values or setting in self.without_value

    def is_right(self, setting: Setting) -> bool:
        """Whether a setting of the target is known to hold it."""
        if setting not in self.values:
            return False
        return setting.same(self.values[setting], self.target[setting])

    def owners_choice(self) -> str | None:
        """The ESS mode that the owner chose and under which BatteryLife is left alone, if any.

        Where nothing newer is known (connection lost), the first answer of the run counts.
        """
        values = self.before | self.values
        if values.get(HUB4_MODE) == HUB4_EXTERNAL:
            return "contrôle externe (Hub4Mode 3)"
        if values.get(BATTERY_LIFE) == STATE_KEEP_CHARGED:
            return "Maintenir les batteries chargées (Keep batteries charged, State 9)"
        return None

    def may_write(self, setting: Setting) -> bool:
        """Whether the owner's choice allows to write it."""
        return setting is not BATTERY_LIFE or self.owners_choice() is None

    def known_wrong(self) -> list[Setting]:
        """The settings whose known value is not the target, and which may be written.

        One that has not answered is not among them.
        """
        return self.unproven([setting for setting in self.target if setting in self.values])

    def unproven(self, settings: Collection[Setting]) -> list[Setting]:
        """Those of the settings that are not known to be right, and may be written."""
        return [one for one in settings if not self.is_right(one) and self.may_write(one)]

    def announced(self) -> str:
        """The serials of all GXs on the broker, for a message."""
        return ", ".join(printable(serial) for serial in sorted(self.serials))

    def presence(self) -> Presence:
        """Who is on the broker, as far as is known now."""
        if self.serial in self.serials:
            return Presence.OURS
        if self.serials:
            return Presence.ANOTHER
        if self.lost_tries:
            return Presence.MAY_BE_STARTING
        return Presence.NOBODY

    def outcome(self, setting: Setting) -> Outcome:
        """What became of a setting of the target.

        written  known     right  outcome
        -        no value  -      NO_VALUE
        no       no        -      SILENT
        yes      no        -      PUBLISHED
        no       yes       yes    IN_PLACE
        yes      yes       yes    CONFIRMED
        -        yes       no     OWNERS_CHOICE, for BatteryLife when there is one
        no       yes       no     NOT_WRITTEN
        yes      yes       no     NOT_HELD
        """
        is_written = setting in self.written
        if setting in self.without_value:
            return Outcome.NO_VALUE
        if setting not in self.values:
            return Outcome.PUBLISHED if is_written else Outcome.SILENT
        if self.is_right(setting):
            return Outcome.CONFIRMED if is_written else Outcome.IN_PLACE
        if setting is BATTERY_LIFE and self.owners_choice():
            return Outcome.OWNERS_CHOICE
        return Outcome.NOT_HELD if is_written else Outcome.NOT_WRITTEN

    def outcomes(self) -> dict[Setting, Outcome]:
        """What became of every setting of the target."""
        return {setting: self.outcome(setting) for setting in self.target}

    def lines(self) -> list[str]:
        """A line for each setting of the target: before -> wanted, and what became of it.

        No line at all when nothing was read or written.
        """
        lines: list[str] = []
        if not (self.before or self.without_value or self.written):
            return lines
        for setting, outcome in self.outcomes().items():
            before = setting.text(self.before.get(setting))
            target = setting.text(self.target[setting])
            lines.append(f"{setting.label} : {before} -> {target}, {outcome}")
        return lines


def is_value_of(setting: Setting, value: object) -> bool:
    """Whether this can be a value of the setting: a text, or a number (true and NaN are none)."""
    if setting.is_text:
        return isinstance(value, str)
    is_number = type(value) in (int, float)
    return is_number and abs(value) < 1e9  # type: ignore[arg-type]  # far above any setting


def complaint(setting: Setting, outcome: Outcome, state: GxState) -> str:
    """A sentence for a setting whose outcome is not what was wanted."""
    match outcome:
        case Outcome.NO_VALUE:
            return (
                f"le GX n'a pas de valeur pour {setting.label} :"
                " fonction désactivée, ou ESS non configuré ?"
            )
        case Outcome.NOT_HELD:
            return (
                f"{setting.label} non tenu, le GX montre {setting.text(state.values[setting])} :"
                " refusé par le GX, ou remis par un autre programme"
            )
        case _:
            return f"{setting.label} : {outcome} (relancez ; --check dit ce qui ne va pas)"


# ---- GX, the link --------------------------------------------------------------------------------

# Seconds. A GX reboots in about two minutes; it answers a wrong password after up to 6 s; Venus
# before 3.20 takes up to 1 s for any answer (tests/FACTS.md, GX).
GX_WORK = 150.0  # the GX's part of a run, everything included
CONNECT_TRY = 10.0  # to CONNACK
CONNECT_PAUSE = 5.0
KEEPALIVE = 15  # a broker that is gone without a word is noticed within about twice that
ANSWER = 5.0
ASK_AGAIN = 1.0
AFTER_STALL = 1.0
STARTING = 60.0  # for settings that are not up yet
READ_ONLY_WAIT = 1.0  # for the read-only settings, once the others have answered


class Link:
    """One connection to the GX's broker, which hands what it hears to a GxState."""

    def __init__(self, config: Config, state: GxState, deadline: float) -> None:
        """deadline: the end of all waiting, on the monotonic clock."""
        self.config = config
        self.state = state
        self.deadline = deadline
        self.are_settings_gone = False
        self.acknowledged: set[int] = set()  # SUBSCRIBEs, by paho's message ids
        name = f"tempo_ess-{uuid4().hex[:12]}"  # no second run shares it
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, name, clean_session=True, reconnect_on_failure=False
        )
        self.client.connect_timeout = CONNECT_TRY
        self.client.on_message = self.on_message
        self.client.on_subscribe = self.on_subscribe

    def close(self) -> None:
        """Disconnect in order.

        Nothing is lost by that: paho sends at once, so that each packet has gone when publish or
        disconnect returns.
        """
        self.client.disconnect()

    def on_subscribe(
        self, _client: object, _data: object, message_id: int, codes: Any, _properties: object
    ) -> None:
        """Remember a SUBACK, unless it refuses a topic, as a house broker may to its user."""
        if not any(code.is_failure for code in codes):
            self.acknowledged.add(message_id)

    def on_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        """Hand an N/ message to the state.

        An empty one for a setting of the target means that the GX's settings service went away;
        once it is back it may have lost what was written. That ends this try: see serve.
        """
        topic = message.topic
        payload = bytes(message.payload)
        log.debug(f"MQTT <- {printable(topic[-40:])} {printable(payload.decode(errors='replace'))}")
        self.state.hear(topic, payload, message.retain)
        if not payload and self.state.topics.get(topic) in self.state.target:
            self.are_settings_gone = True

    def unreachable(self, reason: str) -> Lost:
        """The failure to raise when the broker does not let us in, or not stay."""
        text = f"GX injoignable à {self.config.broker()} ({reason}) : vérifiez gx et gxport dans"
        text += " secret.py, que le GX est allumé et que l'accès MQTT y est activé"
        if not self.config.gxtls:
            text += " (le profil Sécurisé, Secured, demande gxtls)"
        return Lost(text)

    def connect(self) -> None:
        """Connect and log in, to CONNACK, within CONNECT_TRY. May raise Lost.

        A name can take forever to resolve, hence `bounded`. If `open` finishes after the time-out,
        in its thread, the caller has dropped this link already, so its late socket is harmless.
        """
        end = time.monotonic() + CONNECT_TRY
        try:
            bounded(CONNECT_TRY, self.open)
        except TimeoutError:
            raise self.unreachable("pas de réponse à temps") from None
        if not self.serve(self.client.is_connected, end - time.monotonic()):
            raise self.unreachable("pas de réponse à temps")

    def open(self) -> None:
        """The TCP and TLS part of connect. May raise Lost."""
        if self.config.gxpassword or self.config.gxuser:
            # A GX takes any name but an empty one (up to Venus 3.31).
            user = self.config.gxuser or "tempo_ess"
            self.client.username_pw_set(user, self.config.gxpassword)
        try:
            if self.config.gxtls:
                self.client.tls_set_context(pinned_context(self.config.gxcert))
            self.client.connect(self.config.gx, self.config.port(), keepalive=KEEPALIVE)
        except ssl.SSLCertVerificationError:
            raise Lost(
                "le certificat du GX n'est pas, ou plus, celui de gxcert : le GX l'a renouvelé, ou"
                " une horloge (ici ou sur le GX) est fausse ; reprenez-le"
                f" ({self.config.certificate_command()})",
                hopeless=True,
            ) from None
        except (OSError, ValueError) as error:
            raise self.unreachable(french_cause(error)) from None
        sock: Any = self.client.socket()
        if sock:  # else it was cut at once, as serve will find
            # Nagle's algorithm would delay an R/ after a W/ by 40 ms.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def serve(self, is_done: Callable[[], bool], seconds: float) -> bool:
        """Serve the connection until is_done(), or for so many seconds: whether it is done.

        May raise Lost.
        """
        end = min(self.deadline, time.monotonic() + seconds)
        while True:
            if self.are_settings_gone:
                self.state.forget()
                raise Lost("les réglages du GX ne répondent plus (il redémarre ?)")
            if is_done():
                return True
            remaining = end - time.monotonic()
            if remaining <= 0:
                return False
            error = self.client.loop(remaining)
            if error == mqtt.MQTT_ERR_CONN_REFUSED:
                # A GX that is starting refuses the right password too: a new try may help.
                raise Lost(
                    "le GX refuse la connexion : vérifiez gxpassword (et gxuser) dans secret.py, et"
                    " sur le GX Paramètres > Intégrations > Accès MQTT (MQTT access : On),"
                    " pas Appareils couplés uniquement (Paired devices only)"
                )
            if error:
                raise self.unreachable("connexion coupée")

    def publish(self, topic: str, payload: str = "") -> None:
        """Publish with QoS 0, not retained. May raise Lost.

        FlashMQ runs a W/ that is retained, or has QoS 1, a second time later.
        """
        log.debug(f"MQTT -> {topic} {payload}")
        if self.client.publish(topic, payload, qos=0, retain=False).rc:
            raise self.unreachable("connexion coupée")

    def subscribe(self) -> int:
        """Listen to the settings and to the serials announced; paho's id for this SUBSCRIBE."""
        topics = ["N/+/system/0/Serial", *self.state.topics]
        _, message_id = self.client.subscribe([(topic, 0) for topic in topics])
        return message_id or 0

    def is_broker_alive(self) -> bool:
        """Whether the broker acknowledges one more SUBSCRIBE within ANSWER. May raise Lost."""
        message_id = self.subscribe()
        return self.serve(lambda: message_id in self.acknowledged, ANSWER)


# ---- GX, the work --------------------------------------------------------------------------------


def ask(
    link: Link, settings: Collection[Setting], is_done: Callable[[Setting], bool], seconds: float
) -> None:
    """R/ for those of the settings that are not done, again each second, until all are.

    May raise Lost.
    """
    end = min(link.deadline, time.monotonic() + seconds)
    while time.monotonic() < end:
        for setting in settings:
            if not is_done(setting):
                link.publish(f"R/{link.state.serial}/{setting.path}")
        wait = min(ASK_AGAIN, end - time.monotonic())
        if link.serve(lambda: all(map(is_done, settings)), wait):
            return


def read(link: Link) -> None:
    """Ask for the settings, for 5 s, or 60 s when a GX is there or may be starting.

    May raise Lost.
    """
    state = link.state
    state.forget()
    link.subscribe()
    for setting in state.read_only:  # first, so that they are known when the target is
        link.publish(f"R/{state.serial}/{setting.path}")
    ask(link, state.target, state.has_answered, ANSWER)
    if not state.serials:
        make_sure_that_nobody_is_there(link, state.target)
    if state.presence() in (Presence.OURS, Presence.MAY_BE_STARTING):
        if not all(map(state.has_answered, state.target)):
            wait_for_settings(link)
        ask(link, state.read_only, state.has_answered, READ_ONLY_WAIT)


def make_sure_that_nobody_is_there(link: Link, settings: Collection[Setting]) -> None:
    """Wait for a GX that only stalls, and ask it for these settings again.

    May raise Lost: the broker does not answer either.

    A GX or its Wi-Fi can stall for seconds just after CONNACK. The broker runs on the GX, so while
    it stalls nothing is acknowledged: when one more SUBSCRIBE is, the stall is over, and a short
    wait is enough to hear the GX's serial and answers. Version 1.1 took a stall for a test broker:
    it wrote blindly, all was executed afterwards, and State 9, the owner's choice, became 10.
    """
    if not link.is_broker_alive():
        raise link.unreachable("le broker ne répond plus, ou refuse l'abonnement")
    ask(link, settings, link.state.has_answered, AFTER_STALL)


def wait_for_settings(link: Link) -> None:
    """Ask for the settings that are silent, for the rest of the 60 s. May raise Lost.

    Then ask all that answered once more: in that minute the owner may have chosen State 9, which
    must not be written over.
    """
    state = link.state
    rest = STARTING - ANSWER  # read has spent an ANSWER on it
    reserve = 3 * ANSWER  # one to ask again, two to write and confirm
    time_left = link.deadline - time.monotonic() - reserve
    ask(link, state.target, state.has_answered, min(rest, time_left))
    answered = [one for one in (*state.read_only, *state.target) if state.has_answered(one)]
    state.forget()
    ask(link, answered, state.has_answered, ANSWER)


def write(link: Link, settings: Collection[Setting]) -> None:
    """W/ for these settings of the target. May raise Lost."""
    state = link.state
    for setting in settings:
        link.publish(f"W/{state.serial}/{setting.path}", f'{{"value":{state.target[setting]}}}')
        state.note_write(setting)


def write_and_confirm(link: Link) -> None:
    """Write what differs and ask for 5 s until the GX shows it; once more for the rest.

    May raise Lost.
    """
    state = link.state
    due = state.known_wrong()
    write(link, due)
    ask(link, due, state.is_right, ANSWER)
    if time.monotonic() < link.deadline:  # else it could not be confirmed
        due = state.unproven(due)
        write(link, due)
        ask(link, due, state.is_right, ANSWER)


def is_our_gx(state: GxState) -> bool:
    """Whether our GX has answered; False on a test broker.

    May raise Failure: another GX is there, or ours is silent.
    """
    if any(state.has_answered(setting) for setting in state.target):
        return True
    match state.presence():
        case Presence.NOBODY:
            return False
        case Presence.ANOTHER:
            raise Failure(
                f"gxsn = {state.serial} n'est pas le numéro de ce GX ; annoncé ici :"
                f" {state.announced()} ; mettez le vôtre (ID Portail VRM) dans secret.py",
                Exit.UNCONFIRMED,
            )
        case Presence.MAY_BE_STARTING:
            raise Failure(
                "aucun GX ne répond, mais un essai avait échoué : il démarre peut-être, ses"
                " réglages ne répondent pas ; relancez",
                Exit.UNCONFIRMED,
            )
        case Presence.OURS:
            raise Failure(
                "le GX est là mais ses réglages ne répondent pas (il redémarre ? ou le broker garde"
                " l'annonce d'un GX qui n'est plus là)",
                Exit.UNCONFIRMED,
            )


def require(state: GxState, *fine: Outcome) -> None:
    """Raise Failure, naming each setting, unless all outcomes are among these."""
    complaints = [
        complaint(setting, outcome, state)
        for setting, outcome in state.outcomes().items()
        if outcome not in fine
    ]
    if complaints:
        raise Failure(" ; ".join(complaints), Exit.UNCONFIRMED)


def work(link: Link, dry_run: bool) -> None:
    """Read and compare; then the one fork: a dry run ends here, else write and confirm.

    May raise Lost, or Failure when not all of the target is proven.
    """
    state = link.state
    read(link)
    is_there = is_our_gx(state)
    if dry_run:
        if is_there:
            require(state, Outcome.IN_PLACE, Outcome.NOT_WRITTEN, Outcome.OWNERS_CHOICE)
        else:
            log.info("aucun GX ne répond : c'est un broker de test, ou gxsn n'est pas le sien")
        return
    if is_there:
        write_and_confirm(link)
        require(state, Outcome.IN_PLACE, Outcome.CONFIRMED, Outcome.OWNERS_CHOICE)
        return
    # A test broker gets the target once, for whoever watches it (README). That overwrites nobody's
    # choice: our GX would have answered, and another GX ignores these topics.
    write(link, state.target)
    raise Failure(
        "aucun GX ne répond : c'est un broker de test (alors --no-confirm),"
        f" ou un GX qui ne connaît pas gxsn = {state.serial} (vérifiez l'ID Portail VRM)",
        Exit.UNCONFIRMED,
    )


# While we try, a GX may reboot (two minutes), refuse the right password (it is starting), let us in
# before its settings are up, lose what was confirmed (it saves 2 s after a change), or be cut off
# anywhere. So there is one deadline for all of it and one way to start over: connect again, and
# start `work` over from `read`.
#
# Which failure is told? The last one. No connection is begun that could not last its CONNECT_TRY
# before the deadline, so that the last reason is not "no answer in the second that was left".
#
# With which exit code? 5 when something was published, or when the GX had let us in before its
# settings went away. Else 4: it could not be reached, and holds what it held.


def set_gx(config: Config, state: GxState, dry_run: bool, no_confirm: bool) -> None:
    """The GX's part of a run, in as many tries as its time allows; no_confirm: only write.

    The state says what was read and written. May raise Failure when not all of the target is
    proven, or with no_confirm when it could not be published.
    """
    deadline = time.monotonic() + GX_WORK
    were_settings_gone = False
    while True:
        link = Link(config, state, deadline)
        try:
            with closing(link):
                link.connect()
                if no_confirm:
                    write(link, state.target)
                else:
                    work(link, dry_run)
                return
        except Lost as lost:
            state.lost_tries += 1
            were_settings_gone = were_settings_gone or link.are_settings_gone
            if lost.hopeless or time.monotonic() + CONNECT_PAUSE + CONNECT_TRY > deadline:
                was_reached = state.written or were_settings_gone
                code = Exit.UNCONFIRMED if was_reached else Exit.GX
                raise Failure(str(lost), code) from None
            log.info(f"{lost} ; nouvel essai dans {CONNECT_PAUSE:g} s")
        time.sleep(CONNECT_PAUSE)


# ---- Notification --------------------------------------------------------------------------------

NORMAL = 0  # Prowl's priorities
HIGH = 1


def ask_prowl(call: Callable[[], object]) -> str | None:
    """Call a method of pyprowl.Prowl, bounded; None when Prowl agrees, else why not.

    Never in its own words, which can hold the key. pyprowl raises bare Exception and KeyError.
    """

    def attempt() -> str | None:
        try:
            call()
        except Exception as error:
            if str(error).startswith("401 "):
                return "clé refusée (401), vérifiez prowlkey"
            return french_cause(error)
        return None

    log.debug("HTTP api.prowlapp.com")
    try:
        trouble: str | None = bounded(PROWL_TIMEOUT, attempt)
    except TimeoutError:
        trouble = "pas de réponse à temps"
    return trouble


def push(config: Config, text: str, priority: int) -> None:
    """Send a notification if there is a key; a failure is a warning, never the verdict."""
    if not config.prowlkey:
        return
    prowl = pyprowl.Prowl(config.prowlkey, "tempo_ess")
    trouble = ask_prowl(lambda: prowl.notify("EDF TEMPO", text, priority))
    if trouble:
        log.warning(f"notification non envoyée (Prowl : {trouble})")


# ---- --check -------------------------------------------------------------------------------------


class Verdict(StrEnum):
    """How a line of --check begins."""

    OK = "OK"
    ATTENTION = "attention"
    ERREUR = "erreur"


class Line(NamedTuple):
    """A line of --check; the code is what a run would end with, for an error."""

    verdict: Verdict
    subject: str
    text: str
    code: Exit = Exit.RIGHT


class Check(NamedTuple):
    """Which values of a setting are right, and what to do about others."""

    is_right: Callable[[Value], bool]
    advice: str


def one_of(*values: Value) -> Callable[[Value], bool]:
    """Whether it is one of these values."""
    return lambda value: value in values


def has_paris_clock(zone: Value) -> bool:
    """Whether this time zone, as a GX names it, has the clock of Paris, in winter and in summer."""
    now = paris_now()
    try:
        other = ZoneInfo(str(zone).lstrip("/"))  # its own default is written /UTC
    except (LookupError, OSError, ValueError):
        return False
    moments = [now.replace(month=month, day=1) for month in (1, 7)]
    return all(one.astimezone(other).utcoffset() == one.utcoffset() for one in moments)


START = Setting(f"{SCHEDULES}0/Start", "Schedule 1 Start", hours)
DURATION = Setting(f"{SCHEDULES}0/Duration", "Schedule 1 Duration", hours)
ALLOW_DISCHARGE = Setting(
    f"{SCHEDULES}0/AllowDischarge",
    "Schedule 1 Discharge",
    from_table({0: "PV", 1: "PV & Batterie"}),
)
DYNAMIC_ESS = Setting(
    "settings/0/Settings/DynamicEss/Mode", "Dynamic ESS", from_table({0: "arrêté", 1: "actif"})
)
TIME_ZONE = Setting("settings/0/Settings/System/TimeZone", "fuseau du GX", printable, is_text=True)
OTHER_DAYS = [
    Setting(f"{SCHEDULES}{n}/Day", f"Schedule {n + 1} Day", day_words) for n in range(1, 5)
]
SHOWN = [HUB4_MODE, *PROFILE, DAY, START, DURATION, ALLOW_DISCHARGE, DYNAMIC_ESS, TIME_ZONE]
SHOWN += OTHER_DAYS
CHECKS = {  # of those that are not here, every value is right
    HUB4_MODE: Check(one_of(1, 2), f"BatteryLife reste alors tel quel : {ESS_MENU} > Mode"),
    BATTERY_LIFE: Check(
        lambda state: state != STATE_KEEP_CHARGED,
        f"bloque la charge programmée : {ESS_MENU} > Mode",
    ),
    DAY: Check(
        one_of(EVERY_DAY),
        f"pas de recharge tous les soirs : {SCHEDULE_MENU}, Activé, puis Jour > Chaque jour"
        " (Enabled, Day, Every day)",
    ),
    START: Check(
        one_of(22 * 3600), f"il faut 22 h : {SCHEDULE_MENU} > Heure de démarrage (Start time)"
    ),
    DURATION: Check(one_of(8 * 3600), f"il faut 8 h : {SCHEDULE_MENU} > Durée (Duration)"),
    ALLOW_DISCHARGE: Check(
        one_of(0),
        f"il faut PV : {SCHEDULE_MENU} > Autoconsommation supérieure à la limite"
        " (Self-consumption above limit ; caché quand Limite SOC est à 100 %)",
    ),
    DYNAMIC_ESS: Check(one_of(0), f"bloque la charge programmée : {ESS_MENU} > Dynamic ESS"),
    TIME_ZONE: Check(
        has_paris_clock,
        "décale la charge : Paramètres > Général > Date & Heure > Fuseau horaire (Time zone),"
        " Europe/Paris, ou « Brussels, Copenhagen, Madrid, Paris »",
    ),
    **dict.fromkeys(
        OTHER_DAYS,
        Check(
            is_off,
            f"peut charger en heures pleines : {SCHEDULES_MENU}, désactivez ce programme",
        ),
    ),
    **dict.fromkeys(RELAY_FUNCTIONS.values(), Check(one_of(RELAY_MANUAL), RELAY_ADVICE)),
}


def check_clock(now: datetime) -> Line:
    """The machine's clock, which cron follows."""
    here = now.astimezone()
    clock = f"{here:%H:%M} (UTC{here:%z})"
    if here.utcoffset() == now.utcoffset():
        return Line(Verdict.OK, "heure de la machine", clock)
    advice = "cron la suit : sudo timedatectl set-timezone Europe/Paris"
    text = f"{clock}, {now:%H:%M} à Paris ; {advice}"
    return Line(Verdict.ATTENTION, "heure de la machine", text)


def check_secret(path: Path, problems: Problems, hints: list[str]) -> Iterator[Line]:
    """What is wrong with secret.py, or that all is well."""
    if path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        hints = [*hints, f"d'autres peuvent le lire ou le modifier : chmod 600 {path}"]
    for problem in problems.values():
        yield Line(Verdict.ERREUR, "secret.py", problem, Exit.USAGE)
    for hint in hints:
        yield Line(Verdict.ATTENTION, "secret.py", hint)
    if not problems and not hints:
        yield Line(Verdict.OK, "secret.py", str(path))


OTHER_SOURCES = "les autres sources peuvent suppléer"


def check_calendar(source: str, calendar: Calendar, now: datetime, more: str = "") -> Line:
    """The two colours that a source knows.

    Tomorrow's is due from 20:00 on, when the meter announces it and cron's first run is near.
    """
    day, next_day = tempo_days(now)
    colours = f"aujourd'hui {calendar.get(day, '?')}"
    colours += f", demain {calendar.get(next_day, 'non annoncé')}{more}"
    is_due = now.hour >= 20 or now.hour < 6
    if day in calendar and (next_day in calendar or not is_due):
        return Line(Verdict.OK, source, colours)
    return Line(Verdict.ATTENTION, source, f"{colours} ; {OTHER_SOURCES}")


def check_colours(config: Config, now: datetime) -> Iterator[Line]:
    """A line for each source; one for each day on which the meter and the web differ.

    And one when nobody knows today's colour.
    """
    day, next_day = tempo_days(now)
    calendars: dict[str, Calendar] = {}  # by source
    if config.use_eco and config.ecodevice:
        try:
            meter = read_meter(config, now)
            calendars[METER] = {day: meter.aujourdhui}
            if meter.demain:
                calendars[METER][next_day] = meter.demain
            period = f", période {meter.periode}"
            yield check_calendar(METER, calendars[METER], now, period)
        except Failure as failure:  # another contract
            yield Line(Verdict.ERREUR, METER, str(failure), failure.code)
        except NoAnswer as failure:
            if config.use_api:
                yield Line(Verdict.ATTENTION, METER, f"{failure} ; le web peut le remplacer")
            else:
                yield Line(Verdict.ERREUR, METER, str(failure), Exit.COLOUR)
    if config.use_api:
        for source in WEB_SOURCES:
            try:
                calendars[source.name] = ask_web_source(source, now)
                yield check_calendar(source.name, calendars[source.name], now)
            except NoAnswer as failure:
                yield Line(Verdict.ATTENTION, source.name, f"{failure} ; {OTHER_SOURCES}")

    for name, date in (("aujourd'hui", day), ("demain", next_day)):
        told = {source: days[date] for source, days in calendars.items() if date in days}
        if METER in told and len(set(told.values())) > 1:
            all_of_them = ", ".join(f"{source} {couleur}" for source, couleur in told.items())
            advice = "l'un d'eux se trompe : comparez avec le site d'EDF"
            yield Line(Verdict.ATTENTION, f"couleur : {name}", f"{all_of_them} ; {advice}")
    if not any(day in calendar for calendar in calendars.values()):
        trouble = "aucune source ne la donne : rien ne serait réglé"
        yield Line(Verdict.ERREUR, "couleur du jour", trouble, Exit.COLOUR)


def check_setting(setting: Setting, state: GxState, is_needed: bool) -> Line:
    """Whether a setting of the GX is right, and what to do when it is not."""
    if setting not in state.values:
        trouble = "non lisible : relancez ; s'il le reste, ce GX n'a pas ce réglage"
        if setting in state.without_value:
            trouble = "non lisible, sans valeur : fonction désactivée, ou ESS non configuré ?"
        if is_needed:
            return Line(Verdict.ERREUR, setting.label, trouble, Exit.UNCONFIRMED)
        return Line(Verdict.ATTENTION, setting.label, trouble)
    value = state.values[setting]
    text = setting.text(value)
    check = CHECKS.get(setting)
    if check is None or check.is_right(value):
        return Line(Verdict.OK, setting.label, text)
    return Line(Verdict.ATTENTION, setting.label, f"{text}, {check.advice}")


def check_charge(values: Values, now: datetime) -> Iterator[Line]:
    """The GX's own word on its charging, where its Venus knows it."""
    if CHARGE_STATUS in values:
        status = values[CHARGE_STATUS]
        words = CHARGE_STATUS.text(status)
        if status == 0:
            yield Line(Verdict.OK, CHARGE_STATUS.label, words)
        else:
            text = f"le GX dit qu'il ne chargerait pas : {words}"
            yield Line(Verdict.ATTENTION, CHARGE_STATUS.label, text)
    if CHARGE in values and is_night(now):
        trouble = why_no_charge(values, now)
        if trouble:
            advice = "jour, heures, fuseau ou horloge du GX, Dynamic ESS ?"
            yield Line(Verdict.ATTENTION, CHARGE.label, f"{trouble} ; {advice}")
        else:
            yield Line(Verdict.OK, CHARGE.label, CHARGE.text(values[CHARGE]))


def check_gxsn(state: GxState) -> Line:
    """Whether gxsn is the serial of a GX that is on the broker."""
    match state.presence():
        case Presence.OURS:
            return Line(Verdict.OK, "gxsn", f"{state.serial}, vu sur ce GX")
        case Presence.ANOTHER:
            trouble = f"à mettre dans secret.py ; annoncé ici : {state.announced()}"
            return Line(Verdict.ERREUR, "gxsn", trouble, Exit.UNCONFIRMED)
        case _:
            trouble = "aucun GX ne s'annonce ici : broker de test, ou GX qui démarre ?"
            return Line(Verdict.ATTENTION, "gxsn", trouble)


def check_gx(config: Config, now: datetime) -> Iterator[Line]:
    """The GX's lines: reached, its serial, its settings once the serial is right.

    In one try, since the owner is there to make another.
    """
    needed = [*PROFILE]
    settings = [*SHOWN]
    if config.relais:
        needed.append(RELAYS[config.relais])
        settings += [RELAYS[config.relais], RELAY_FUNCTIONS[config.relais]]
    state = GxState(config.gxsn, {}, [*settings, CHARGE, CHARGE_STATUS])
    deadline = time.monotonic() + CONNECT_TRY + 2 * ANSWER + AFTER_STALL
    try:
        with closing(Link(config, state, deadline)) as link:
            link.connect()
            yield Line(Verdict.OK, "GX", f"joint à {config.broker()}")
            link.subscribe()
            if config.gxsn:
                ask(link, state.read_only, state.has_answered, ANSWER)
            else:
                link.serve(lambda: False, ANSWER)  # for the serials alone
            if not state.serials:
                make_sure_that_nobody_is_there(link, state.read_only)
    except Lost as lost:
        yield Line(Verdict.ERREUR, "GX", str(lost), Exit.GX)
        return
    yield check_gxsn(state)
    if not config.gxsn or state.presence() is Presence.ANOTHER:
        return
    if not any(state.has_answered(setting) for setting in settings):
        trouble = "aucun ne répond : broker de test, ou GX qui redémarre ?"
        yield Line(Verdict.ERREUR, "réglages du GX", trouble, Exit.UNCONFIRMED)
        return
    for setting in settings:
        yield check_setting(setting, state, setting in needed)
    yield from check_charge(state.values, now)


def check_all(path: Path, now: datetime) -> Iterator[Line]:
    """Every line of --check, past every error."""
    yield check_clock(now)
    try:
        config, problems, hints = read_config(path)
    except Failure as failure:
        yield Line(Verdict.ERREUR, "secret.py", str(failure), failure.code)
        return
    yield from check_secret(path, problems, hints)
    yield from check_colours(config, now)
    if is_gx_access_sound(problems):
        yield from check_gx(config, now)
    if config.prowlkey:
        trouble = ask_prowl(pyprowl.Prowl(config.prowlkey).verify_key)
        verdict = Verdict.ATTENTION if trouble else Verdict.OK
        yield Line(verdict, "Prowl", trouble or "clé acceptée")


def run_check(path: Path, is_quiet: bool, now: datetime) -> Exit:
    """Say every line of --check as it is found, and their count; the code of the first error.

    When quiet, only what is not OK, on stderr.
    """
    code = Exit.RIGHT
    counts = dict.fromkeys(Verdict, 0)
    for verdict, subject, text, its_code in check_all(path, now):
        counts[verdict] += 1
        if code is Exit.RIGHT:
            code = its_code
        if not is_quiet:
            log.info(f"{verdict:9}  {subject:20}  {text}")
        elif verdict is Verdict.ATTENTION:
            log.warning(f"{subject} : {text}")
        elif verdict is Verdict.ERREUR:
            log.error(f"{subject} : {text}")
    attentions, errors = counts[Verdict.ATTENTION], counts[Verdict.ERREUR]
    log.info(f"{plural(attentions, 'attention')}, {plural(errors, 'erreur')}")
    return code


def plural(number: int, word: str) -> str:
    """Like 0 erreur, 1 attention, 2 attentions."""
    return f"{number} {word}{'s' if number > 1 else ''}"


# ---- Program -------------------------------------------------------------------------------------

EXAMPLES = """\
exemples :
  tempo_ess.py --check        contrôle l'installation, sans rien écrire
  tempo_ess.py --dry-run      montre ce qui changerait maintenant
  tempo_ess.py --today bleu --tomorrow rouge --period HC
                              règle le GX pour une veille de jour rouge
"""
FRENCH_ERRORS = (  # argparse's words, and ours
    (r"unrecognized arguments: (.*)", r"option ou mot inconnu : \1"),
    (r"argument (\S+): expected one argument", r"\1 demande une valeur"),
    (r"argument (\S+): not allowed with argument (\S+)", r"\1 et \2 s'excluent"),
    (r"argument (\S+): ignored explicit argument .*", r"\1 ne prend pas de valeur"),
    (r"argument (\S+): (.*)", r"\1 \2"),  # the words of parse_couleur and parse_periode
)


class Parser(argparse.ArgumentParser):
    """argparse, with its errors in French and as a Failure."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong."""
        for english, french in FRENCH_ERRORS:
            if re.fullmatch(english, message, re.DOTALL):
                message = re.sub(english, french, message, flags=re.DOTALL)
                break
        raise Failure(f"ligne de commande à corriger : {message} (voir --help)", Exit.USAGE)


def parse_couleur(text: str) -> Couleur:
    """A colour in any case. May raise ArgumentTypeError."""
    try:
        return Couleur(text.upper())
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{printable(text)} : il faut bleu, blanc ou rouge"
        ) from None


def parse_periode(text: str) -> Periode:
    """A period in any case. May raise ArgumentTypeError."""
    try:
        return Periode(text.upper())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{printable(text)} : il faut HP ou HC") from None


def parse_options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line. May raise Failure: it is wrong.

    The carriage return of a crontab that was pasted from Windows is part of its last word.
    """
    parser = Parser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument
    mode = parser.add_mutually_exclusive_group()
    verbosity = parser.add_mutually_exclusive_group()
    secret = FOLDER / "secret.py"
    add("--config", metavar="FICHIER", type=Path, default=secret, help="au lieu de secret.py")
    mode.add_argument(
        "--dry-run", action="store_true", help="montre ce qui changerait, sans écrire"
    )
    mode.add_argument("--check", action="store_true", help="contrôle l'installation, sans écrire")
    mode.add_argument(
        "--no-confirm", action="store_true", help="publie sans lire : pour un broker de test"
    )
    add(
        "--today",
        metavar="C",
        type=parse_couleur,
        help="impose la couleur du jour : bleu, blanc, rouge",
    )
    add("--tomorrow", metavar="C", type=parse_couleur, help="impose la couleur de demain")
    add("--period", metavar="HP|HC", type=parse_periode, help="impose la période")
    add("--no-notify", action="store_true", help="n'envoie pas de notification")
    verbosity.add_argument("--quiet", action="store_true", help="ne dit que ce qui ne va pas")
    verbosity.add_argument(
        "--verbose", action="store_true", help="dit aussi chaque message échangé"
    )
    add(
        "--version", action="version", version=f"tempo_ess {__version__}", help="affiche la version"
    )
    add("-h", "--help", action="help", help="affiche cette aide")
    return parser.parse_args([word.removesuffix("\r") for word in argv if word != "\r"])


def settings_to_read(tempo: Tempo, config: Config) -> list[Setting]:
    """What a run reads besides its target.

    HUB4_MODE guards the write of BatteryLife (GxState.may_write). The others are for tell_gx.
    """
    settings = [DAY]
    if tempo.periode is Periode.HC:
        settings += [HUB4_MODE, CHARGE, CHARGE_STATUS]
    if config.relais:
        settings.append(RELAY_FUNCTIONS[config.relais])
    return settings


def tell_gx(state: GxState, todays_profile: Target, now: datetime) -> None:
    """Say what became of the settings, and what the owner should know beside them.

    todays_profile: empty when today's colour was imposed, so that nobody is suspected.
    """
    values = state.values
    for line in state.lines():
        log.log(RESULT, line)
    choice = state.owners_choice()
    if choice and BATTERY_LIFE in state.target:
        log.log(RESULT, f"{choice} : c'est votre choix, BatteryLife {state.outcome(BATTERY_LIFE)}")
    for remark in foreign_changes(state.written, todays_profile, state.before):
        log.warning(remark)
    for setting in RELAY_FUNCTIONS.values():
        if values.get(setting, RELAY_MANUAL) != RELAY_MANUAL:
            log.warning(f"{setting.label} : {setting.text(values[setting])}, {RELAY_ADVICE}")
    day = values.get(DAY, EVERY_DAY)
    if is_off(day):  # may be a choice
        log.log(RESULT, "Schedule 1 inactif : pas de recharge programmée")
    elif day != EVERY_DAY:
        log.warning(
            f"Schedule 1 ne s'ouvre pas tous les soirs, mais : {DAY.text(day)} ;"
            f" {SCHEDULE_MENU} > Jour : Chaque jour (Every day)"
        )
    trouble = why_no_charge(values, now)
    if trouble:
        log.warning(f"{trouble} ; --check dit ce qui ne va pas")


def run(options: argparse.Namespace, config: Config, now: datetime) -> Tempo:
    """The evening in one straight line. May raise Failure."""
    imposed = Imposed(options.today, options.tomorrow, options.period)
    evening = read_evening(imposed, config, now)
    tell_evening(evening, now)
    tempo = evening.tempo
    target = target_settings(tempo, config, now)
    state = GxState(config.gxsn, target, settings_to_read(tempo, config))
    failure: Failure | None = None
    try:
        set_gx(config, state, options.dry_run, options.no_confirm)
    except Failure as trouble:
        rest = "" if state.written else f" ; {NOTHING_WRITTEN}"
        failure = Failure(f"{trouble}{rest}", trouble.code)
    if is_change_to_announce(tempo, state.outcomes(), has_failed=failure is not None):
        log.log(NEWS, f"Demain {tempo.demain}")
    todays_profile = {} if options.today else config.profile(tempo.aujourdhui)
    tell_gx(state, todays_profile, now)
    if failure:
        raise failure
    return tempo


def main(argv: Sequence[str] | None = None, clock: Callable[[], datetime] = paris_now) -> int:
    """Run, and translate its end into an exit code and a push; clock gives a Paris time."""
    voice = open_output()
    os.environ["NETRC"] = os.devnull  # requests would send its logins to hosts that want none
    config = Config()  # as yet there is nobody to notify
    code = Exit.RIGHT
    priority = HIGH  # unless all went well and tomorrow is not red
    try:
        try:
            options = parse_options(sys.argv[1:] if argv is None else argv)
            if options.quiet:
                set_stdout_level(logging.WARNING)
            if options.verbose:
                set_stdout_level(logging.DEBUG)
            if options.check:
                return run_check(options.config, options.quiet, clock())
            config, problems, hints = read_config(options.config)
            if options.dry_run or options.no_notify:
                config = replace(config, prowlkey="")  # also for the failure below
            for hint in hints:
                log.warning(f"{options.config} : {hint}")
            if problems:
                raise Failure(list_problems(options.config, problems), Exit.USAGE)
            tempo = run(options, config, clock())
            if tempo.demain is not Couleur.ROUGE:
                priority = NORMAL
        except Failure as failure:
            log.error(failure)
            code = failure.code
        except Exception:
            log.exception(
                "bogue du script : relancez-le, et signalez-le avec ce que montre le terminal"
            )
            code = Exit.BUG
        if voice.has_news():
            push(config, voice.text(), priority)
    except KeyboardInterrupt:
        log.error("interrompu : relancez le script, il reprendra là où il s'est arrêté")
        return 130  # as a shell has it
    return code


if __name__ == "__main__":
    raise SystemExit(main())
