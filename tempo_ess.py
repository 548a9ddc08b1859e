#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["paho-mqtt>=2.1", "requests", "pyprowl"]
# ///
"""Règle chaque soir un ESS Victron d'après la couleur TEMPO du lendemain.

cron lance ce script à 20:05 et à 22:02. Il lit les couleurs (EcoDevice, sinon le web), en déduit
les réglages de la batterie, n'écrit sur le GX que ce qui diffère, relit pour prouver que le GX l'a
pris et prévient par Prowl. Le GX est sa seule mémoire : une exécution manquée est rattrapée par la
suivante de la même période (HP ou HC), et une seconde exécution de suite n'écrit rien.

  couleur de demain   charge (Schedule 1)   BatteryLife   MinSoc
  BLEU                80 %                  on            30 %
  BLANC               90 %                  on            30 %
  ROUGE               100 %                 off           25 %

  20:05, en HP : la charge seule. 22:02, en HC : la charge si elle manque, MinSoc et BatteryLife.
  Avec `relais` (README), chaque exécution règle aussi le relais.

  code   sens
  0      le GX est dans l'état voulu, qu'il ait fallu changer quelque chose ou non
  1      bogue du script
  2      ligne de commande ou secret.py
  3      aucune source ne donne la couleur du jour
  4      GX injoignable, ou connexion refusée par lui
  5      publié mais non confirmé, réglage sans réponse, ou valeur refusée par le GX
"""

import argparse
import difflib
import json
import logging
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
from datetime import date, datetime, timedelta
from enum import IntEnum, StrEnum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from uuid import uuid4
from zoneinfo import ZoneInfo

try:
    import paho.mqtt.client as mqtt
    import pyprowl  # type: ignore[import-untyped]
    import requests
    from paho.mqtt.enums import CallbackAPIVersion  # absent before paho-mqtt 2
except ImportError as missing:  # the system's python instead of the venv's: the commonest slip
    print(
        f"erreur : {missing.name} manque à ce Python ;"
        f" lancez : {Path(__file__).with_name('.venv')}/bin/python {' '.join(sys.argv)}",
        file=sys.stderr,
    )
    raise SystemExit(2) from None

__version__ = "1.1.0"

log = logging.getLogger("tempo_ess")


# ---- Exit codes, failures, words -----------------------------------------------------------------


class Exit(IntEnum):
    """What cron and the owner are told by the exit code."""

    OK = 0  # the GX is in the wanted state
    BUG = 1  # a traceback is on stderr
    USAGE = 2  # command line or secret.py
    COLOUR = 3  # no source gave today's colour
    GX = 4  # the GX is unreachable, or refused the login
    UNCONFIRMED = 5  # published but not confirmed, silent, or refused


class Failure(Exception):
    """An expected failure, as opposed to a bug in this script; its text is a French sentence."""

    code: Exit  # each subclass has its own


class WrongUsage(Failure):
    """The command line or secret.py is wrong; nobody was contacted."""

    code = Exit.USAGE


class NoColour(Failure):
    """Today's colour is not to be had: the run ends."""

    code = Exit.COLOUR


class NoAnswer(Failure):
    """One source of colours is down or does not know: the run goes on with the next."""

    code = Exit.COLOUR


class TryAgain(NoAnswer):
    """One source of colours is down, and a new try may help."""


class Unreachable(Failure):
    """A try at the GX failed, or the GX was lost on the way: a new try may help."""

    code = Exit.GX


class SettingsGone(Unreachable):
    """The GX's settings service went away on the way: a new try may help."""

    code = Exit.UNCONFIRMED


class WrongCertificate(Unreachable):
    """The GX shows another certificate than gxcert: no new try will help."""


class Unconfirmed(Failure):
    """The GX does not hold, or does not show, what it should."""

    code = Exit.UNCONFIRMED


NOTHING_WRITTEN = "rien n'a été écrit, le GX garde ses réglages"


def shown(text: object) -> str:
    """Text that came from a peer, fit for a terminal: at most 40 of its characters, escaped."""
    return ascii(str(text)[:40])[1:-1]


# ---- TEMPO ---------------------------------------------------------------------------------------


class Couleur(StrEnum):
    """The colour of a TEMPO day, which runs from 06:00 to 06:00."""

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


PARIS = ZoneInfo("Europe/Paris")


def paris_now() -> datetime:
    """The time in Europe/Paris, whatever the machine's zone."""
    return datetime.now(PARIS)


def periode_at(now: datetime) -> Periode:
    """The period by the Paris clock."""
    if 6 <= now.hour < 22:
        return Periode.HP
    return Periode.HC


Days = Mapping[str, date]  # {"aujourdhui": 24 November}, by Tempo's field names


def known_days(now: datetime) -> Days:
    """The civil dates of the TEMPO day in force and of the next one.

    The next one only once its colour is settled: RTE's choice binds at 10:30, and 11:00 leaves a
    margin.
    """
    today = (now - timedelta(hours=6)).date()
    days = {"aujourdhui": today}
    if not 6 <= now.hour < 11:
        days["demain"] = today + timedelta(days=1)
    return days


# ---- Settings of the GX --------------------------------------------------------------------------

Value = float | str
# BatteryLife/State: a person chooses on, off or 9; the GX itself moves 1 to 2..8 and 10 to 11 or 12
# [dbus-systemcalc-py; tests/FACTS.md has these sources]. Only STATE_ON and STATE_OFF are written.
STATE_ON = 1
KEEP_CHARGED = 9
STATE_OFF = 10
INACTIVE_DAYS = range(-11, 0)  # of a schedule's Day: switched off, 1..11 is kept negated
EXTERNAL_CONTROL = 3  # a Hub4Mode
MANUAL = 2  # a relay's function: the only one with which a write to the relay holds


class Setting(NamedTuple):
    """A value on the GX: R/<sn>/<path> asks for it, N/... tells it, W/... sets it."""

    path: str
    label: str
    words: Callable[[Any], str | None]  # for a value; None where there is no word for it
    right: str = ".*"  # for --check, a pattern: the words that are right
    advice: str = ""  # and what to do about others

    def text(self, value: Value | None) -> str:
        """The value for a person; ? for one that is not known.

        Values with the same text are the same: BatteryLife counts by mode, 30.0 is 30.
        """
        if value is None:
            return "?"
        return self.words(value) or str(value)


def percent(value: float) -> str:
    """30.0 as 30 %."""
    return f"{value:g} %"


def hours(seconds: float) -> str:
    """28800 as 8 h."""
    return f"{seconds / 3600:g} h"


ESS_MODES = {
    **dict.fromkeys(range(1, 9), "on"),
    KEEP_CHARGED: "Keep batteries charged",
    **dict.fromkeys(range(10, 13), "off"),
}
HUB4_MODES = {1: "ESS", 2: "ESS", EXTERNAL_CONTROL: "contrôle externe"}
DAYS = {7: "tous les jours", **dict.fromkeys(INACTIVE_DAYS, "inactif")}
RELAY_STATES = {0: "ouvert", 1: "fermé"}
FUNCTIONS = {-1: "désactivée", 0: "alarme", MANUAL: "Manual"}  # with -1 a relay has no State
CGWACS = "settings/0/Settings/CGwacs/"
SCHEDULES = f"{CGWACS}BatteryLife/Schedule/Charge/"
ESS_MENU = "Settings > System setup > ESS"
SCHEDULES_MENU = f"{ESS_MENU} > Scheduled charge levels"
SCHEDULE_MENU = f"{SCHEDULES_MENU} > Schedule 1"
SOC = Setting(f"{SCHEDULES}0/Soc", "Schedule 1 SoC", percent)
MIN_SOC = Setting(f"{CGWACS}BatteryLife/MinimumSocLimit", "MinSoc", percent)
BATTERY_LIFE = Setting(
    f"{CGWACS}BatteryLife/State",
    "BatteryLife",
    ESS_MODES.get,
    "on|off",
    f"bloque la charge programmée : {ESS_MENU} > Mode",
)
HUB4_MODE = Setting(
    f"{CGWACS}Hub4Mode",
    "Mode ESS (Hub4Mode)",
    HUB4_MODES.get,
    "ESS",
    f"BatteryLife reste alors tel quel : {ESS_MENU} > Mode",
)
DAY = Setting(
    f"{SCHEDULES}0/Day",
    "Schedule 1 Day",
    DAYS.get,
    "tous les jours",
    f"pas de recharge tous les soirs : {SCHEDULE_MENU} > Day, Every day",
)
TIME_ZONE = Setting(
    "settings/0/Settings/System/TimeZone",
    "fuseau du GX",
    shown,  # the only text
    "Europe/Paris",  # or any with the same clock, see check_setting
    "décale la charge : Settings > General > Date & Time > Time zone, Europe/Paris",
)
RELAYS = {
    1: Setting("system/0/Relay/0/State", "Relais 1", RELAY_STATES.get),
    2: Setting("system/0/Relay/1/State", "Relais 2", RELAY_STATES.get),
}
RELAY_ADVICE = "l'écriture ne tient pas : Settings > Integrations > Relays > Function, Manual"
RELAY_FUNCTIONS = {
    1: Setting(
        "settings/0/Settings/Relay/Function",
        "fonction relais 1",
        FUNCTIONS.get,
        "Manual",
        RELAY_ADVICE,
    ),
    2: Setting(
        "settings/0/Settings/Relay/1/Function",
        "fonction relais 2",
        FUNCTIONS.get,
        "Manual",
        RELAY_ADVICE,
    ),
}

Target = dict[Setting, int]
Values = dict[Setting, Value]


# ---- Configuration -------------------------------------------------------------------------------

Names = dict[str, Any]  # the variables of secret.py
Problems = dict[str, str]  # sentences, by the variable's name


class Config(NamedTuple):
    """The variables of secret.py, with their types and defaults; an empty text is "not set"."""

    ecodevice: str = ""
    ecouser: str = ""
    ecopassword: str = ""
    ecoinput: int = 1
    use_eco: bool = True
    use_api: bool = True  # all of WEB_SOURCES
    gx: str = ""
    gxsn: str = ""
    gxport: int | None = None  # see port()
    gxtls: bool = False
    gxcert: str = ""
    gxpassword: str = ""
    prowlkey: str = ""
    chgbleu: int = 80
    chgblanc: int = 90
    chgrouge: int = 100
    minbleu: int = 30
    minblanc: int = 30
    minrouge: int = 25
    blbleu: bool = True
    blblanc: bool = True
    blrouge: bool = False
    relais: int | None = None
    relais_couleurs: Collection[str] = ["BLANC", "ROUGE"]
    relais_debut: str = "06:00"
    relais_fin: str = "22:00"

    def profile(self, couleur: Couleur) -> Target:
        """What the GX holds on a day of this colour.

        One more setting needs its Setting, its variables above (and RULES, if it is no percentage),
        its place here, in change_notice, in NEEDED and in CHECKED. One that is only read needs its
        Setting, its place in run's read_only and its remark in tell_gx.
        """
        profiles = {
            Couleur.BLEU: (self.chgbleu, self.minbleu, self.blbleu),
            Couleur.BLANC: (self.chgblanc, self.minblanc, self.blblanc),
            Couleur.ROUGE: (self.chgrouge, self.minrouge, self.blrouge),
        }
        charge, min_soc, battery_life = profiles[couleur]
        state = STATE_ON if battery_life else STATE_OFF
        return {SOC: charge, MIN_SOC: min_soc, BATTERY_LIFE: state}

    def port(self) -> int:
        """The port of the GX's broker."""
        return self.gxport or (8883 if self.gxtls else 1883)

    def where(self) -> str:
        """The address and port of the GX's broker, an IPv6 address in brackets."""
        address = self.gx or "ADRESSE_DU_GX"
        if ":" in address:
            address = f"[{address}]"
        return f"{address}:{self.port()}"

    def certificate_command(self) -> str:
        """The command that fetches the GX's certificate."""
        return f"openssl s_client -connect {self.where()} </dev/null | openssl x509 > gx.crt"


class Rule(NamedTuple):
    """What a variable of secret.py must be; it is mandatory when its own default is not so."""

    pattern: str  # of the value as Python writes it: 1, True, None, 'BLEU'
    wanted: str  # the same in French


ADDRESS = 'une adresse avec des points comme "192.168.1.50", ou un nom, sans http://'
TIME = Rule("'([01][0-9]|2[0-3]):[0-5][0-9]'", 'une heure comme "06:00"')
ONE_OR_TWO = Rule("[12]|None", "1 ou 2, sans guillemets")
RULES = {
    "ecodevice": Rule(r"'[^\s,/@\\]+'", f"{ADDRESS} (sans EcoDevice : use_eco = False)"),
    "ecoinput": ONE_OR_TWO,
    # One colon comes before a port; IPv6 has several, and no brackets here.
    "gx": Rule(r"'(?![^:]*:[^:]*$)[^\s,/[\\]+'", f"{ADDRESS} ni port (il se met dans gxport)"),
    "gxsn": Rule(
        "'[0-9A-Fa-f]{12}'", "le VRM Portal ID, 12 chiffres ou lettres de a à f, entre guillemets"
    ),
    "gxport": Rule("[1-9][0-9]{0,4}|None", "un nombre entier de 1 à 65535, sans guillemets"),
    "relais": ONE_OR_TWO,
    "relais_couleurs": Rule(
        r"\[('(BLEU|BLANC|ROUGE)'(, )?)*\]", 'une liste de couleurs comme ["BLANC", "ROUGE"]'
    ),
    "relais_debut": TIME,
    "relais_fin": TIME,
}
OTHER_RULES = {  # by the type of the default; the whole numbers left are percentages
    bool: Rule("True|False", "True ou False"),
    int: Rule("[1-9][0-9]|100", "un nombre entier de 10 à 100, sans guillemets"),
    str: Rule("['\"].*", "un texte entre guillemets droits"),
}
HIDDEN = ("prowlkey", "gxpassword", "ecopassword")


def pinned_context(cert: str) -> ssl.SSLContext:
    """TLS that trusts this one certificate; OSError when the file is not one.

    The GX's is self-signed, CN=venus.local, without SAN, so a name check is impossible. Not
    create_default_context, which grows stricter (VERIFY_X509_STRICT from Python 3.13 on).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cert)
    return context


def add_joint_problems(config: Config, problems: Problems) -> None:
    """Add to the problems the values that do not go together, each right by itself."""
    if not config.use_eco:
        problems.pop("ecodevice", None)  # it is not asked
        if not config.use_api:
            problems["use_api"] = "use_eco = False, use_api = False : il faut True à l'un des deux"
    for couleur in Couleur:
        profile = config.profile(couleur)
        chg = f"chg{couleur.lower()}"  # the names in secret.py
        min_ = f"min{couleur.lower()}"
        if profile[MIN_SOC] > profile[SOC] and not problems.keys() & {chg, min_}:
            given = f"{min_} = {profile[MIN_SOC]}"
            problems[min_] = f"{given} : il faut au plus {chg} = {profile[SOC]}"
    debut, fin = config.relais_debut, config.relais_fin  # two digits each, so texts compare
    if debut >= fin and not problems.keys() & {"relais_debut", "relais_fin"}:
        given = f"relais_debut = {debut}"
        problems["relais_debut"] = f"{given} : il faut une heure avant relais_fin = {fin}"
    if config.port() > 65535:
        problems["gxport"] = f"gxport = {config.gxport} : il faut {RULES['gxport'].wanted}"
    if config.gxtls:
        try:
            pinned_context(config.gxcert)
        except (OSError, ValueError):
            problems.setdefault(
                "gxcert",
                f"gxcert = {config.gxcert!r} :"
                f" il faut le certificat du GX, obtenu par {config.certificate_command()}",
            )


def read_config(names: Names, folder: Path) -> tuple[Config, Problems]:
    """The configuration, with defaults for what is missing or wrong, and the problems."""
    values: Names = {}
    problems: Problems = {}
    for name, default in Config._field_defaults.items():
        rule = RULES.get(name) or OTHER_RULES[type(default)]
        value = names.get(name)
        if isinstance(value, str):
            value = value.strip()
        if value in ("", None):  # not set
            value = default
        given = repr(value)
        if re.fullmatch(rule.pattern, given):
            values[name] = value
        else:
            if name in HIDDEN:
                given = "(masqué)"
            problems[name] = f"{name} = {given[:40]} : il faut {rule.wanted}"
    config = Config(**values)
    if config.gxcert:
        config = config._replace(gxcert=str(folder / config.gxcert))
    add_joint_problems(config, problems)
    return config, problems


def misspelt(names: Names) -> list[str]:
    """A question for each name that looks like one of ours."""
    hints = []
    for name, value in names.items():
        if name in Config._fields or hasattr(value, "__name__"):  # ours; a module or function
            continue
        near = difflib.get_close_matches(name.lower(), Config._fields, 1, 0.75)
        if near:
            hints.append(f"{name} inconnu : vouliez-vous dire {near[0]} ?")
    return hints


def read_source(path: Path) -> bytes:
    """The text of secret.py, which cron will execute; WrongUsage when it is absent or unsafe."""
    try:
        status = path.stat()
        source = path.read_bytes()
    except FileNotFoundError:
        raise WrongUsage(f"{path} est absent : copiez secret.py.example et remplissez-le") from None
    except OSError:
        raise WrongUsage(f"{path} n'est pas un fichier que cet utilisateur peut lire") from None
    if status.st_mode & stat.S_IWOTH:
        raise WrongUsage(f"{path} est modifiable par tous, et cron l'exécute : chmod 600 {path}")
    if status.st_uid not in (os.geteuid(), 0):
        raise WrongUsage(
            f"{path} est à un autre utilisateur (uid {status.st_uid}) que celui qui lance le script"
            " : lancez-le sous le nom de son propriétaire, sans sudo"
        )
    return source


def examine(path: Path) -> tuple[Config, Problems, list[str]]:
    """The configuration, the problems and the hints; WrongUsage when secret.py cannot be run."""
    source = read_source(path)
    names: Names = {}
    try:
        with warnings.catch_warnings(action="ignore"):  # they quote the line, which can hold a key
            exec(compile(source, str(path), "exec"), names)
    except (Exception, SystemExit) as error:
        # Where it is wrong, not in the error's own words, which can show a key. The traceback
        # starts here; its next entry is a line of secret.py, unless Python could not read it.
        entry = error.__traceback__ and error.__traceback__.tb_next
        line = entry.tb_lineno if entry else getattr(error, "lineno", None) or "?"
        raise WrongUsage(
            f"{path}, ligne {line} : mal écrit (un texte sans guillemets droits, un nombre avec %,"
            " une espace devant un nom, un choix autre que True ou False ?) ; nano : Ctrl-_"
        ) from None
    return *read_config(names, path.parent), misspelt(names)


def load_config(path: Path) -> Config:
    """The configuration; WrongUsage with every problem at once, before anything is contacted."""
    config, problems, hints = examine(path)
    for hint in hints:
        log.warning(f"{path} : {hint}")
    if problems:
        lines = "\n  ".join(problems.values())
        raise WrongUsage(f"{path} est à corriger, rien n'a été contacté :\n  {lines}")
    return config


# ---- Decision: no clock, no log, no network ------------------------------------------------------


def target_settings(tempo: Tempo, config: Config, now: datetime) -> Target:
    """What the GX is to hold after a run at this Paris time.

    HP: the charge alone, since raising MinSoc or turning BatteryLife on can start a recharge at
    peak price. HC: all three. While demain is unknown today's colour counts, which costs little
    (many meters never announce a blue day); but in HC the charge stays as it is, since the 20:05
    run knew as much or more. Every run sets the relay, if there is one; cron then also runs after
    relais_debut and relais_fin (crontab.example).
    """
    target = config.profile(tempo.demain or tempo.aujourdhui)
    if tempo.periode is Periode.HP:
        target = {SOC: target[SOC]}
    elif tempo.demain is None:
        del target[SOC]
    if config.relais:
        in_time = config.relais_debut <= now.strftime("%H:%M") < config.relais_fin
        closed = in_time and tempo.aujourdhui in config.relais_couleurs
        target[RELAYS[config.relais]] = int(closed)
    return target


def somebody_else(written: Target, usual: Target, before: Values) -> list[str]:
    """A sentence for each setting that this run wrote and that held a stranger's value before.

    usual: the values of today's colour, which the last evening left. What is neither these nor the
    target came from elsewhere. (A value can be the target, and yet be written: a GX that restarts
    loses it.)
    """
    remarks = []
    for setting, value in usual.items():
        if setting not in written or setting not in before:
            continue
        was = setting.text(before[setting])
        expected = setting.text(value)
        if was not in (expected, setting.text(written[setting])):
            remarks.append(
                f"{setting.label} était à {was} au lieu de {expected} :"
                " changé à la main, par un autre programme (evcc, VRM), ou une soirée manquée ?"
            )
    return remarks


class Fate(StrEnum):
    """What became of one setting in this run."""

    KEPT = "déjà en place"
    CONFIRMED = "confirmé"
    PUBLISHED = "publié, non confirmé"
    REFUSED = "refusé par le GX"
    PENDING = "non écrit"
    MUTE = "ne répond pas"
    OWNERS_CHOICE = "laissé tel quel"


def change_notice(tempo: Tempo, config: Config, fates: Mapping[Setting, Fate]) -> str | None:
    """The push for a change of colour, claiming only what was confirmed; None when none is due.

    For a run that went well: nothing was refused or silent, PUBLISHED means --no-confirm, and a dry
    run is told apart by main, which then sends nothing.
    In HP it is always due: it announces the night (a relay's run of the afternoon does so, too). In
    HC, with all three settings since demain is known, only when the run changed something.
    """
    if tempo.demain is None or tempo.demain is tempo.aujourdhui:
        return None
    plan = config.profile(tempo.demain)
    parts = {
        SOC: f"charge {SOC.text(plan[SOC])}",
        MIN_SOC: f"MinSoc {MIN_SOC.text(plan[MIN_SOC])}",
        BATTERY_LIFE: f"BatteryLife {BATTERY_LIFE.text(plan[BATTERY_LIFE])}",
    }
    unsure = Fate.PUBLISHED in fates.values()
    if tempo.periode is Periode.HP:
        proof = Fate.PUBLISHED if unsure else "confirmée"
        charge = f"{parts.pop(SOC)} ({proof})"
        return f"Demain {tempo.demain} : {charge} ; à 22 h {', '.join(parts.values())}"
    changed = [one for one in parts if fates[one] in (Fate.CONFIRMED, Fate.PUBLISHED)]
    if not changed:
        return None
    if SOC not in changed:  # the push of 20:05 told of it
        del parts[SOC]
    if fates[BATTERY_LIFE] is Fate.OWNERS_CHOICE:  # a remark tells of it
        del parts[BATTERY_LIFE]
    if unsure:
        return f"Demain {tempo.demain} : {', '.join(parts.values())} ({Fate.PUBLISHED})"
    return f"Demain {tempo.demain}, prêt : {', '.join(parts.values())} (confirmés)"


# ---- Waiting and HTTP ----------------------------------------------------------------------------

# Seconds. A whole run: EcoDevice 30, web 3 x 15, GX 150, Prowl 15: under 5 minutes.
ECODEVICE_TRIES = 3
ECODEVICE_TRY = 8.0
ECODEVICE_PAUSE = 2.0  # polls closer than that make it unstable (tests/FACTS.md, EcoDevice)
WEB_SOURCE = 15.0  # for all the requests to one source
PROWL = 15.0
MAX_BODY = 64 * 1024  # bytes taken of an HTTP answer

Json = Mapping[str, Any]


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


WORDS = (  # the first that fits: most of them are kinds of OSError
    (UnicodeError, "adresse mal écrite"),  # 192.168.1..5
    (socket.gaierror, "nom inconnu du réseau"),
    (TimeoutError, "pas de réponse à temps"),
    (ConnectionRefusedError, "connexion refusée"),
    (ConnectionError, "connexion coupée"),
    (ssl.SSLError, "échec TLS"),
    (OSError, "appareil ou réseau injoignable"),
)


def why(error: BaseException) -> str:
    """French words for a peer's failure, from its first cause.

    Never the exception's own words, which can hold a key or the peer's bytes.
    """
    if isinstance(error, requests.exceptions.InvalidURL):  # its cause says less
        return "adresse mal écrite"
    while error.__context__:  # set with and without "from"
        error = error.__context__
    for kind, words in WORDS:
        if isinstance(error, kind):
            return words
    return "réponse inattendue"


def json_object(body: bytes) -> Json:
    """The JSON object in body, else ValueError; an EcoDevice's text may hold a raw newline."""
    value = json.loads(body.decode("utf-8-sig", "replace"), strict=False)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def http_get(url: str, timeout: float, session: requests.Session) -> bytes:
    """The body of a 200, at most 64 KiB of it; redirects are not followed.

    TryAgain for a 5xx, NoAnswer for another status, which a new try would not change.
    """
    with session.get(url, timeout=timeout, stream=True, allow_redirects=False) as answer:
        if answer.status_code >= 500:
            raise TryAgain(f"réponse HTTP {answer.status_code}")
        if answer.status_code != 200:
            raise NoAnswer(f"réponse HTTP {answer.status_code}")
        body = b""
        for chunk in answer.iter_content(4096):
            body += chunk
            if len(body) >= MAX_BODY:
                break
        return body[:MAX_BODY]


def fetch(url: str, seconds: float, session: requests.Session) -> Json:
    """The JSON object at url, got within so many seconds; TryAgain or NoAnswer."""
    log.debug(f"HTTP GET {url}")
    try:
        return json_object(bounded(seconds, lambda: http_get(url, seconds, session)))
    except (OSError, ValueError, RecursionError) as error:
        raise TryAgain(why(error)) from None


# ---- Colours -------------------------------------------------------------------------------------

Facts = Mapping[str, Any]  # {"aujourdhui": BLEU}; what is not known is None, or not there

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
CONTRATS = {
    "TH..": "Base",
    "HC..": "heures creuses",
    "HP..": "heures creuses",
    "HN..": "EJP",
    "PM..": "EJP",
}


def parse_ecodevice(answer: Json, ecoinput: int) -> Tempo:
    """The colours and the period in an EcoDevice v1's answer.

    NoAnswer when PTEC is no code (---- is an unplugged téléinfo), NoColour for another contract.
    A DEMAIN that is not exactly a colour is not announced: never BLEU, never a guess.
    """
    ptec = str(answer.get(f"T{ecoinput}_PTEC"))
    if ptec in CONTRATS:
        raise NoColour(
            f"le contrat du compteur est {CONTRATS[ptec]} (PTEC {ptec}), pas TEMPO :"
            f" vérifiez l'abonnement, ou ecoinput dans secret.py ; {NOTHING_WRITTEN}"
        )
    if ptec not in PTEC:
        raise NoAnswer(f"pas de code TEMPO, PTEC {shown(ptec)} (téléinfo débranchée, ecoinput ?)")
    aujourdhui, periode = PTEC[ptec]
    return Tempo(aujourdhui, DEMAIN.get(str(answer.get(f"T{ecoinput}_DEMAIN"))), periode)


def ask_ecodevice(config: Config, _days: Days) -> Facts:
    """The colours and the period from the meter, which knows the days, in three tries.

    NoAnswer or NoColour.
    """
    session = requests.Session()
    session.trust_env = False  # a device on the LAN: no proxy and no netrc
    if config.ecouser and config.ecopassword:
        # Encoded as browsers do; requests would take Latin-1.
        session.auth = requests.auth.HTTPBasicAuth(
            config.ecouser.encode(), config.ecopassword.encode()
        )
    url = f"http://{config.ecodevice}/api/xdevices.json?cmd=10"
    for _ in range(ECODEVICE_TRIES):
        try:
            return parse_ecodevice(fetch(url, ECODEVICE_TRY, session), config.ecoinput)._asdict()
        except NoAnswer as failure:
            trouble = (
                f"{failure} ; ouvrez http://{config.ecodevice} dans un navigateur : si rien ne"
                " s'y montre, corrigez ecodevice dans secret.py"
            )
            if not isinstance(failure, TryAgain):
                break
        time.sleep(ECODEVICE_PAUSE)  # also after the last try, which does no harm
    raise NoAnswer(trouble)


# Every web source gives colours by civil date, written as in 2026-11-24, in one or more answers;
# what came before a failure counts. None is a day whose colour is not known yet, or no day at all.
Calendar = dict[str, Couleur | None]

RTE = "https://www.services-rte.com/cms/open_data/v1/tempoLight"
RTE_CODES = {
    "BLUE": Couleur.BLEU,
    "WHITE": Couleur.BLANC,
    "RED": Couleur.ROUGE,
}


def parse_rte(answer: Json) -> Calendar:
    """The colours in RTE's tempoLight; its -fallback keys hold no colour."""
    return {day: RTE_CODES.get(code) for day, code in answer["values"].items()}


def ask_rte(_days: Sequence[date]) -> Iterator[Calendar]:
    """RTE's colours; it answers for two days of its own choosing."""
    yield parse_rte(fetch(RTE, WEB_SOURCE, requests.Session()))


# The supplier's own calendar, as its customer site asks for it: independent of RTE's file, but
# undocumented, so it may change.
EDF = "https://api-commerce.edf.fr/commerce/activet/v1/calendrier-jours-effacement"
EDF_HEADERS = {
    "Application-Origine-Controlee": "site_RC",
    "Situation-Usage": "Jours Effacement",
}
EDF_CODES = {f"TEMPO_{couleur}": couleur for couleur in Couleur}


def parse_edf(answer: Json) -> Calendar:
    """The colours in EDF's calendar; NON_DEFINI is not announced."""
    tempo = answer["content"]["options"][0]  # the one option that was asked for
    return {day["dateApplication"]: EDF_CODES.get(day["statut"]) for day in tempo["calendrier"]}


def ask_edf(days: Sequence[date]) -> Iterator[Calendar]:
    """EDF's colours, all days in one request."""
    session = requests.Session()
    session.headers.update(EDF_HEADERS)
    bounds = f"dateApplicationBorneInf={days[0]}&dateApplicationBorneSup={days[-1]}"
    url = f"{EDF}?option=TEMPO&{bounds}&identifiantConsommateur=src"
    yield parse_edf(fetch(url, WEB_SOURCE, session))


API = "https://www.api-couleur-tempo.fr/api/jourTempo/"
API_CODES = {
    "1": Couleur.BLEU,
    "2": Couleur.BLANC,
    "3": Couleur.ROUGE,
}


def parse_api(answer: Json) -> Calendar:
    """The colour in api-couleur-tempo.fr's answer for one day; 0 is "unknown"."""
    return {answer["dateJour"]: API_CODES.get(str(answer["codeJour"]))}


def ask_api(days: Sequence[date]) -> Iterator[Calendar]:
    """api-couleur-tempo.fr's colours, a request for each day."""
    for day in days:
        yield parse_api(fetch(f"{API}{day}", WEB_SOURCE / 2, requests.Session()))


WEB_SOURCES = {  # in the order of asking; one more takes WEB_SOURCE of the run's 5 minutes
    "RTE": ask_rte,
    "EDF": ask_edf,
    "api-couleur-tempo.fr": ask_api,
}


def ask_web(source: str, days: Days) -> Facts:
    """The colours of these days, as far as the source knows; NoAnswer for none of them."""
    if not days:  # all is known
        return {}
    calendar: Calendar = {}
    trouble = "ne sait pas"
    try:
        for part in WEB_SOURCES[source](list(days.values())):
            calendar |= part
    except NoAnswer as failure:
        trouble = str(failure)
    except (LookupError, TypeError, AttributeError):  # over which a parser trips
        trouble = "réponse d'une autre forme"
    found = {name: calendar.get(str(day)) for name, day in days.items()}
    if not any(found.values()):
        raise NoAnswer(trouble)
    return found


def sources_to_ask(config: Config) -> Mapping[str, Callable[[Days], Facts]]:
    """How to ask each source about these days, in the order of asking."""
    sources = {}
    if config.use_eco and config.ecodevice:
        sources["EcoDevice"] = partial(ask_ecodevice, config)
    if config.use_api:
        sources |= {source: partial(ask_web, source) for source in WEB_SOURCES}
    return sources


class Evening:
    """The evening's facts as they are found, by Tempo's fields; the first to know counts."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = dict.fromkeys(Tempo._fields)  # None: not known yet
        self.sources: dict[str, str] = {}  # of what is known

    def learn(self, source: str, found: Facts) -> None:
        """Take in what this source found."""
        for name, value in found.items():
            if value and not self.found[name]:
                self.found[name] = value
                self.sources[name] = source

    def tempo(self) -> Tempo:
        """The three facts, once today's colour and the period are known."""
        return Tempo(**self.found)


def read_evening(imposed: Facts, config: Config, now: datetime) -> Evening:
    """The colours and the period: what the owner imposes, else the EcoDevice's, else the web's.

    NoColour when nobody knows today's colour, or the meter's contract is another.
    """
    evening = Evening()
    evening.learn("imposée", imposed)
    if evening.found["aujourdhui"] and evening.found["periode"]:
        return evening  # a trial: nobody is asked, not even for demain
    failures = []
    days = known_days(now)
    for source, ask in sources_to_ask(config).items():
        unknown = {name: days[name] for name in days if not evening.found[name]}
        try:
            evening.learn(source, ask(unknown))
        except NoAnswer as failure:
            failures.append(f"{source} : {failure}")
            # The owner can mend the EcoDevice, but not the web.
            level = logging.INFO if source in WEB_SOURCES else logging.WARNING
            log.log(level, failures[-1])
    evening.learn("horloge", {"periode": periode_at(now)})
    if not evening.found["aujourdhui"]:
        reasons = " ; ".join(failures)
        raise NoColour(
            f"couleur du jour inconnue ({reasons}) ; {NOTHING_WRITTEN} ;"
            " au besoin, imposez-la avec --today (README)"
        )
    return evening


def tell_evening(evening: Evening, now: datetime) -> list[str]:
    """Say the colours, where they come from, and what the owner should know before a write.

    What is odd about the period is returned for the push, if one is due.
    """
    tempo = evening.tempo()
    sources = evening.sources
    colours = f"aujourd'hui {tempo.aujourdhui} ({sources['aujourdhui']})"
    if tempo.demain:
        colours += f", demain {tempo.demain} ({sources['demain']})"
    log.info(f"TEMPO : {colours}, période {tempo.periode} ({sources['periode']})")
    if tempo.demain is None:
        # Usual after a blue day; after another one the battery may charge higher than it need.
        costly = tempo.periode is Periode.HC and tempo.aujourdhui is not Couleur.BLEU
        level = logging.WARNING if costly else logging.INFO
        log.log(level, "couleur de demain non annoncée, on garde celle du jour")
    match sources["periode"], tempo.periode, periode_at(now):
        case "EcoDevice", Periode.HP, Periode.HC:
            remark = (
                "le compteur est encore en HP : dans la crontab, mettez la ligne de 22:02"
                " quelques minutes après le début de vos heures creuses"
            )
        case "imposée", Periode.HC, Periode.HP:
            remark = (
                "heures creuses imposées pendant les heures pleines :"
                " une recharge au prix fort peut commencer tout de suite"
            )
        case _:  # HC by day on the meter is right: some off-peak hours end after 06:00
            return []
    log.warning(remark)
    return [remark]


# ---- GX, what is known ---------------------------------------------------------------------------


def value_in(payload: bytes, is_text: bool) -> Value | None:
    """The value in an N/ message; None for what is no answer: no JSON, no number (or no text)."""
    try:
        value: Any = json_object(payload).get("value")
    except (ValueError, RecursionError):
        return None
    if is_text:
        return value if isinstance(value, str) else None
    return value if type(value) in (int, float) and abs(value) < 1e9 else None  # no NaN


class Ledger:
    """What a run wants of the GX with this serial, heard of it and wrote. No broker here.

    Link.read empties `values` and fills it; a write and an empty N/ remove what is no longer true,
    and the next answer brings it back. The rest is kept for the whole run, over lost connections.
    """

    def __init__(self, serial: str, target: Target, read_only: Collection[Setting]) -> None:
        self.serial = serial
        self.target = target
        self.read_only = read_only
        self.topics = {f"N/{serial}/{one.path}": one for one in (*read_only, *target)}
        self.before: Values = {}  # the first answers of the run
        self.values: Values = {}  # what the GX holds, as far as is known now
        self.written: Target = {}  # in this run
        self.serials: set[str] = set()  # of every GX on this broker that sent a message
        self.was_unreachable = False  # in at least one try of this run

    def hear(self, topic: str, payload: bytes, retained: bool) -> None:
        """Take in an N/ message; a retained one (old Venus) is no answer, only a sign of life.

        An empty one takes the answer back: the GX's settings service went away, and once it is back
        it may have lost what was written. SettingsGone, if the setting is of the target: as after a
        lost connection, all begins again.
        """
        self.serials.add(topic.split("/")[1])
        setting = self.topics.get(topic)
        if setting is None or retained:
            return
        value = value_in(payload, setting is TIME_ZONE)
        if value is not None:
            self.values[setting] = value
            self.before.setdefault(setting, value)
        elif not payload and setting in self.target:
            self.values.clear()  # also for the fates, should this try have been the last
            raise SettingsGone("les réglages du GX ne répondent plus (il redémarre ?)")
        elif not payload:
            self.values.pop(setting, None)

    def note_write(self, setting: Setting) -> None:
        """It was written: what it showed counts no more."""
        self.written[setting] = self.target[setting]
        self.values.pop(setting, None)

    def is_known(self, setting: Setting) -> bool:
        """Whether the GX has answered for it."""
        return setting in self.values

    def is_right(self, setting: Setting) -> bool:
        """Whether a setting of the target is known to hold it."""
        return setting.text(self.values.get(setting)) == setting.text(self.target[setting])

    def owners_choice(self) -> str | None:
        """The ESS mode that the owner chose and under which BatteryLife is left alone, if any.

        The first answers still count where `values` knows no more: to be careful, not up to date.
        """
        values = self.before | self.values
        if values.get(HUB4_MODE) == EXTERNAL_CONTROL:
            return "contrôle externe (Hub4Mode 3)"
        if values.get(BATTERY_LIFE) == KEEP_CHARGED:
            return "Keep batteries charged (State 9)"
        return None

    def is_due(self, setting: Setting) -> bool:
        """Whether it is to be written, or written again: never against the owner's choice."""
        if setting is BATTERY_LIFE and self.owners_choice():
            return False
        return not self.is_right(setting)

    def changes(self) -> list[Setting]:
        """What is known to be otherwise on the GX, and to be written."""
        return [one for one in self.target if self.is_known(one) and self.is_due(one)]

    def may_be_there(self) -> bool:
        """Whether this GX is on the broker, or may soon be.

        It is when it sent a message. It may be when a try failed and no other GX did: it would be
        starting.
        """
        return self.serial in self.serials or (self.was_unreachable and not self.serials)

    def fate(self, setting: Setting) -> Fate:
        """What became of a setting of the target."""
        written = setting in self.written
        known = self.is_known(setting)
        right = self.is_right(setting)
        if right and written:
            return Fate.CONFIRMED
        # What was written and has not answered since is told as published, whoever chose what.
        if setting is BATTERY_LIFE and self.owners_choice() and (known or not written):
            return Fate.OWNERS_CHOICE
        if right:
            return Fate.KEPT
        if known:
            return Fate.REFUSED if written else Fate.PENDING
        return Fate.PUBLISHED if written else Fate.MUTE

    def fates(self) -> dict[Setting, Fate]:
        """What became of every setting of the target."""
        return {setting: self.fate(setting) for setting in self.target}

    def lines(self) -> list[str]:
        """A sentence for each setting of the target that says what became of it."""
        lines = []
        for setting, fate in self.fates().items():
            before = setting.text(self.before.get(setting))
            target = setting.text(self.target[setting])
            line = f"{setting.label} : {before} -> {target}, {fate}"
            if fate is Fate.REFUSED:
                line += f", reste à {setting.text(self.values[setting])}"
            lines.append(line)
        return lines

    def left_with(self) -> str:
        """What a failed run leaves on the GX."""
        return " ; ".join(self.lines()) if self.written else NOTHING_WRITTEN


# ---- GX, the link --------------------------------------------------------------------------------

# Seconds. A GX reboots in about two minutes; it answers a wrong password after up to 6 s; Venus
# before 3.20 takes up to 1 s for any answer (tests/FACTS.md, GX).
GX_WORK = 150.0  # the GX's part of a run, everything included
GX_CONNECT = 120.0  # of these, when it never let anyone in
CONNECT_TRY = 10.0
CONNECT_PAUSE = 5.0
STARTING = 60.0  # for settings that are not up yet
ANSWER = 5.0
ASK_AGAIN = 1.0
READ_ONLY = 1.0  # for the read-only settings, once the others have answered


class Link:
    """One connection to the GX's broker, serving a ledger; at its end it disconnects in order."""

    def __init__(self, config: Config, ledger: Ledger, deadline: float) -> None:
        """deadline: the end of all waiting, on the monotonic clock."""
        self.config = config
        self.ledger = ledger
        self.deadline = deadline
        name = f"tempo_ess-{uuid4().hex[:12]}"  # no second run shares it
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, name, clean_session=True, reconnect_on_failure=False
        )
        self.client.on_message = self.on_message

    def close(self) -> None:
        """Disconnect in order; like each publish, paho sends it before it returns."""
        self.client.disconnect()

    def on_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        """Hand an N/ message to the ledger; paho hands its SettingsGone on to serve's caller."""
        topic = message.topic
        payload = bytes(message.payload)
        log.debug(f"MQTT <- {shown(topic[-40:])} {shown(payload.decode(errors='replace'))}")
        self.ledger.hear(topic, payload, message.retain)

    def lost(self, reason: str) -> Unreachable:
        """The failure to raise when the broker does not let us in, or not stay."""
        text = f"GX injoignable à {self.config.where()} ({reason}) : vérifiez gx et gxport dans"
        text += " secret.py, que le GX est allumé et que MQTT y est activé"
        if not self.config.gxtls:
            text += " (le profil Secured demande gxtls)"
        return Unreachable(text)

    def connect(self, end: float) -> None:
        """One try, to CONNACK, until end; Unreachable, or WrongCertificate."""
        try:
            bounded(end - time.monotonic(), self.open)
        except ssl.SSLCertVerificationError:
            raise WrongCertificate(
                "le certificat du GX n'est pas, ou plus, celui de gxcert : le GX l'a renouvelé, ou"
                " une horloge (ici ou sur le GX) est fausse ; reprenez-le"
                f" ({self.config.certificate_command()})"
            ) from None
        except (OSError, ValueError) as error:
            raise self.lost(why(error)) from None
        if not self.serve(self.client.is_connected, end - time.monotonic()):
            raise self.lost("pas de réponse à temps")

    def open(self) -> None:
        """The TCP and TLS part of connect; OSError or ValueError."""
        if self.config.gxpassword:
            # Any name will do; Venus up to 3.31 refuses an empty one.
            self.client.username_pw_set("tempo_ess", self.config.gxpassword)
        if self.config.gxtls:
            self.client.tls_set_context(pinned_context(self.config.gxcert))
        self.client.connect(self.config.gx, self.config.port(), keepalive=15)
        sock: Any = self.client.socket()
        if sock:  # else it was cut at once, as serve will find
            # Nagle's algorithm would delay an R/ after a W/ by 40 ms.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def serve(self, done: Callable[[], bool], seconds: float) -> bool:
        """Serve the connection until done() or for so many seconds; Unreachable when it is lost."""
        end = min(self.deadline, time.monotonic() + seconds)
        while not done():
            remaining = end - time.monotonic()
            if remaining <= 0:
                return False
            error = self.client.loop(remaining)
            if error == mqtt.MQTT_ERR_CONN_REFUSED:
                # A GX that is starting refuses the right password too: a new try may help.
                raise Unreachable(
                    "le GX refuse la connexion : vérifiez gxpassword dans secret.py, et sur le GX"
                    " « MQTT access : On » (pas « Paired devices only »)"
                )
            if error:
                raise self.lost("connexion coupée")
        return True

    def publish(self, kind: str, setting: Setting, payload: str = "") -> None:
        """R/ or W/, with QoS 0 and not retained: else FlashMQ runs a W/ a second time, later."""
        topic = f"{kind}/{self.ledger.serial}/{setting.path}"
        log.debug(f"MQTT -> {topic} {payload}")
        if self.client.publish(topic, payload, qos=0, retain=False).rc:
            raise self.lost("connexion coupée")

    def subscribe(self) -> None:
        """Listen to the run's own settings, and to the serials that are announced."""
        topics = ["N/+/system/0/Serial", *self.ledger.topics]
        self.client.subscribe([(topic, 0) for topic in topics])

    def ask(
        self, settings: Collection[Setting], is_done: Callable[[Setting], bool], seconds: float
    ) -> None:
        """R/ for those of the settings that are not done, again each second, until all are."""
        end = min(self.deadline, time.monotonic() + seconds)
        while time.monotonic() < end:
            for setting in settings:
                if not is_done(setting):
                    self.publish("R", setting)
            wait = min(ASK_AGAIN, end - time.monotonic())
            if self.serve(lambda: all(map(is_done, settings)), wait):
                return

    def read(self) -> None:
        """Ask for the settings: 5 s, or 60 s in all when a GX is there or may be on its way up."""
        ledger = self.ledger
        ledger.values.clear()
        self.subscribe()
        for setting in ledger.read_only:  # answered meanwhile, as a rule
            self.publish("R", setting)
        self.ask(ledger.target, ledger.is_known, ANSWER)
        if ledger.may_be_there():
            self.ask(ledger.target, ledger.is_known, STARTING - ANSWER)
        if ledger.values:
            self.ask(ledger.read_only, ledger.is_known, READ_ONLY)

    def write(self, settings: Collection[Setting]) -> None:
        """W/ for these settings of the target."""
        for setting in settings:
            self.publish("W", setting, f'{{"value":{self.ledger.target[setting]}}}')
            self.ledger.note_write(setting)

    def apply(self) -> None:
        """Write what differs, ask for 5 s until the GX shows it; once more for the rest."""
        due = self.ledger.changes()
        for _ in range(2):
            self.write(due)
            self.ask(due, self.ledger.is_right, ANSWER)
            # Not changes(): what stayed silent after its write is written again, too.
            due = [setting for setting in due if self.ledger.is_due(setting)]

    def work(self, dry_run: bool) -> None:
        """Read, compare, write, confirm.

        Unconfirmed when nobody answers, another GX does, or a setting is not proven.
        """
        ledger = self.ledger
        self.read()
        if not ledger.values:
            self.handle_silence(dry_run)
            return
        if not dry_run:
            self.apply()
        fine = [Fate.KEPT, Fate.CONFIRMED, Fate.OWNERS_CHOICE]
        if dry_run:
            fine.append(Fate.PENDING)
        unproven = [one.label for one, fate in ledger.fates().items() if fate not in fine]
        if unproven:
            raise Unconfirmed(f"le GX ne confirme pas {', '.join(unproven)}")

    def handle_silence(self, dry_run: bool) -> None:
        """A GX that is not up, another GX, or a test broker, which gets the target once.

        Always Unconfirmed, but for a dry run on a test broker.
        """
        ledger = self.ledger
        if ledger.may_be_there():
            raise Unconfirmed("le GX est là mais ses réglages ne répondent pas (il redémarre ?)")
        if ledger.serials:
            raise Unconfirmed(
                f"gxsn = {ledger.serial} n'est pas le numéro de ce GX, qui annonce"
                f" {shown(min(ledger.serials))} : corrigez secret.py"
            )
        if dry_run:
            log.info("aucun GX sur ce broker (broker de test ?)")
            return
        # For whoever watches a test broker, as the README shows. Nobody's choice is overwritten: a
        # GX of this serial would have announced it, and one of another ignores these topics.
        self.write(ledger.target)
        raise Unconfirmed(
            "aucun GX ne répond : c'est un broker de test (alors --no-confirm),"
            f" ou un GX qui ne connaît pas gxsn = {ledger.serial} (vérifiez le VRM Portal ID)"
        )


def set_gx(config: Config, ledger: Ledger, dry_run: bool, no_confirm: bool) -> None:
    """The GX's part of a run, in as many tries as its time allows; no_confirm: only write.

    Unreachable when the GX cannot be reached and nothing was published, Unconfirmed when anything
    of the target is not proven; else the ledger says what was read and written.
    """
    start = time.monotonic()
    tries_end = start + GX_CONNECT
    reason: Unreachable | None = None
    while True:
        try:
            with closing(Link(config, ledger, start + GX_WORK)) as link:
                link.connect(min(time.monotonic() + CONNECT_TRY, tries_end))
                tries_end = start + GX_WORK  # once let in, the whole time counts
                if no_confirm and not dry_run:
                    link.write(ledger.target)
                else:
                    link.work(dry_run)
                return
        except Unreachable as failure:
            ledger.was_unreachable = True
            now = time.monotonic()
            if reason is None or now < tries_end:  # a try that was cut short says less
                reason = failure
            if now + CONNECT_PAUSE > tries_end or isinstance(failure, WrongCertificate):
                if ledger.written:
                    raise Unconfirmed(str(reason)) from None
                raise reason from None
            log.info(f"{failure} ; nouvel essai dans {CONNECT_PAUSE:g} s")
        time.sleep(CONNECT_PAUSE)


# ---- Notification --------------------------------------------------------------------------------

NORMAL = 0  # Prowl's priorities
HIGH = 1


def prowl(call: Callable[[], object]) -> str | None:
    """Call a method of pyprowl.Prowl, bounded; None when Prowl agrees, else why not.

    Never in its own words, which can hold the key. pyprowl raises bare Exception and KeyError.
    """
    log.debug("HTTP api.prowlapp.com")
    try:
        bounded(PROWL, call)
    except Exception as error:
        if str(error).startswith("401 "):
            return "clé refusée (401), vérifiez prowlkey"
        return why(error)
    return None


def push(config: Config, text: str, priority: int) -> None:
    """Send a notification if there is a key; a failure is a warning, never the verdict."""
    if not config.prowlkey:
        return
    notify = pyprowl.Prowl(config.prowlkey, "tempo_ess").notify
    trouble = prowl(partial(notify, "EDF TEMPO", text, priority))
    if trouble:
        log.warning(f"notification non envoyée (Prowl : {trouble}) : {text}")
    else:
        log.info(f"notification : {text}")


# ---- --check -------------------------------------------------------------------------------------

OK = logging.INFO  # open_output gives these levels their French names
ATTENTION = logging.WARNING
ERREUR = logging.ERROR


class Line(NamedTuple):
    """A line of --check; the code is what a run would end with."""

    level: int
    subject: str
    text: str
    code: Exit = Exit.OK


NEEDED = (SOC, MIN_SOC, BATTERY_LIFE, *RELAYS.values())  # without which a run ends with exit 5
CHECKED = [
    HUB4_MODE,
    BATTERY_LIFE,
    MIN_SOC,
    SOC,
    DAY,
    Setting(
        f"{SCHEDULES}0/Start",
        "Schedule 1 Start",
        hours,
        "22 h",
        f"il faut 22 h : {SCHEDULE_MENU} > Start time",
    ),
    Setting(
        f"{SCHEDULES}0/Duration",
        "Schedule 1 Duration",
        hours,
        "8 h",
        f"il faut 8 h : {SCHEDULE_MENU} > Duration",
    ),
    Setting(
        f"{SCHEDULES}0/AllowDischarge",
        "Schedule 1 Discharge",
        {0: "PV", 1: "PV & Battery"}.get,
        "PV",
        f"il faut PV : {SCHEDULE_MENU} > Self-consumption above limit",
    ),
    Setting(
        "settings/0/Settings/DynamicEss/Mode",
        "Dynamic ESS",
        {0: "Off"}.get,
        "Off",
        f"bloque la charge programmée : {ESS_MENU} > Dynamic ESS, Off",
    ),
    TIME_ZONE,
]
CHECKED += [
    Setting(
        f"{SCHEDULES}{n}/Day",
        f"Schedule {n + 1} Day",
        DAYS.get,
        "inactif",
        f"peut charger en heures pleines : {SCHEDULES_MENU}",
    )
    for n in range(1, 5)
]


def check_clock(now: datetime) -> Line:
    """The machine's clock, which cron follows."""
    here = now.astimezone()
    clock = f"{here:%H:%M} (UTC{here:%z})"
    if here.utcoffset() == now.utcoffset():
        return Line(OK, "heure de la machine", clock)
    advice = "cron la suit : sudo timedatectl set-timezone Europe/Paris"
    return Line(ATTENTION, "heure de la machine", f"{clock}, {now:%H:%M} à Paris ; {advice}")


def check_colours(config: Config, now: datetime) -> Iterator[Line]:
    """A line for each source, and one more when none gives today's colour."""
    is_known = False
    days = known_days(now)
    for source, ask in sources_to_ask(config).items():
        try:
            found = ask(days)
        except (NoAnswer, NoColour) as failure:
            if config.use_api and isinstance(failure, NoAnswer):
                advice = "une autre source peut suppléer"
                yield Line(ATTENTION, source, f"{failure} ; {advice}")
            else:  # no other source, or another contract, which no other source could mend
                yield Line(ERREUR, source, str(failure), failure.code)
            continue
        today = found["aujourdhui"]
        if today:
            is_known = True
        demain = found.get("demain")
        colours = f"aujourd'hui {today or '?'}, demain {demain or 'non annoncé'}"
        if "periode" in found:
            colours += f", période {found['periode']}"
        is_overdue = demain is None and not 6 <= now.hour < 20  # cron's first run is at 20:05
        yield Line(ATTENTION if is_overdue else OK, source, colours)
    if not is_known:
        trouble = "aucune source ne la donne : rien ne serait réglé"
        yield Line(ERREUR, "couleur du jour", trouble, Exit.COLOUR)


def same_clock(zone: str) -> bool:
    """Whether this time zone, as a GX names it, has the clock of Paris, in winter and in summer."""
    now = paris_now()
    try:
        other = ZoneInfo(zone.lstrip("/"))  # its own default is written /UTC
    except (LookupError, OSError, ValueError):
        return False
    moments = [now.replace(month=month, day=1) for month in (1, 7)]
    return all(one.astimezone(other).utcoffset() == one.utcoffset() for one in moments)


def check_setting(setting: Setting, value: Value | None) -> Line:
    """Whether a setting of the GX is right, and what to do when it is not."""
    if value is None and setting in NEEDED:
        return Line(ERREUR, setting.label, "non lisible", Exit.UNCONFIRMED)
    if value is None:
        return Line(ATTENTION, setting.label, "non lisible")
    text = setting.text(value)
    if re.fullmatch(setting.right, text) or (setting is TIME_ZONE and same_clock(text)):
        return Line(OK, setting.label, text)
    return Line(ATTENTION, setting.label, f"{text}, {setting.advice}")


def check_gx(config: Config) -> Iterator[Line]:
    """The GX's lines, read under the serial that it announces when gxsn is missing or another."""
    settings = list(CHECKED)
    if config.relais:
        settings += [RELAYS[config.relais], RELAY_FUNCTIONS[config.relais]]
    ledger = Ledger(config.gxsn.lower(), {}, settings)
    try:
        with closing(Link(config, ledger, time.monotonic() + GX_CONNECT)) as link:
            link.connect(time.monotonic() + CONNECT_TRY)
            yield Line(OK, "GX", f"joint à {config.where()}")
            link.subscribe()
            link.serve(lambda: ledger.serial in ledger.serials, ANSWER)
            if ledger.serial in ledger.serials:
                yield Line(OK, "gxsn", f"{ledger.serial}, annoncé par ce GX")
            elif not ledger.serials:
                yield Line(ATTENTION, "gxsn", "ce broker n'annonce aucun GX : broker de test ?")
            else:
                announced = min(ledger.serials)
                trouble = f"ce GX annonce {shown(announced)} : à mettre dans secret.py"
                yield Line(ERREUR, "gxsn", trouble, Exit.UNCONFIRMED)
                ledger = link.ledger = Ledger(announced, {}, settings)  # go on with it
                link.subscribe()
            link.ask(settings, ledger.is_known, ANSWER)
    except Unreachable as failure:
        yield Line(ERREUR, "GX", str(failure), Exit.GX)
        return
    if ledger.values:
        for setting in settings:
            yield check_setting(setting, ledger.values.get(setting))
    else:
        trouble = "aucun ne répond : broker de test, ou GX qui redémarre ?"
        yield Line(ERREUR, "réglages du GX", trouble, Exit.UNCONFIRMED)


def check_all(path: Path, now: datetime) -> Iterator[Line]:
    """Every line of --check, past every error."""
    yield check_clock(now)
    try:
        config, problems, hints = examine(path)
    except WrongUsage as failure:
        yield Line(ERREUR, "secret.py", str(failure), failure.code)
        return
    if path.stat().st_mode & stat.S_IROTH:
        hints.append(f"d'autres peuvent le lire : chmod 600 {path}")
    for problem in problems.values():
        yield Line(ERREUR, "secret.py", problem, Exit.USAGE)
    for hint in hints:
        yield Line(ATTENTION, "secret.py", hint)
    if not problems and not hints:
        yield Line(OK, "secret.py", str(path))
    yield from check_colours(config, now)
    if not problems.keys() & {"gx", "gxport", "gxtls", "gxcert", "gxpassword"}:
        yield from check_gx(config)
    if config.prowlkey:
        trouble = prowl(pyprowl.Prowl(config.prowlkey).verify_key)
        yield Line(ATTENTION if trouble else OK, "Prowl", trouble or "clé acceptée")


def check(path: Path, quiet: bool, now: datetime) -> Exit:
    """Say every line of --check as it is found; the code of the first error.

    With quiet, only what is not OK, on stderr.
    """
    code = Exit.OK
    for level, subject, text, its_code in check_all(path, now):
        if code is Exit.OK:
            code = its_code
        if quiet:
            log.log(level, f"{subject} : {text}")
        else:
            log.info(f"{logging.getLevelName(level):9}  {subject:20}  {text}")
    return code


# ---- Program -------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """argparse, with its errors in French and as a Failure."""

    def error(self, message: str) -> NoReturn:
        """Say which options are wrong."""
        named = re.findall(r"(?<!\w)--?[a-z][\w-]*", message) or ["un mot de trop"]
        raise WrongUsage(f"ligne de commande à corriger : {' et '.join(named)} (voir --help)")


def couleur(text: str) -> Couleur:
    """A colour in any case; ValueError."""
    return Couleur(text.upper())


def periode(text: str) -> Periode:
    """A period in any case; ValueError."""
    return Periode(text.upper())


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; WrongUsage when it is wrong."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument
    mode = parser.add_mutually_exclusive_group()
    verbosity = parser.add_mutually_exclusive_group()
    secret = Path(__file__).with_name("secret.py")
    add("--config", metavar="FICHIER", type=Path, default=secret, help="au lieu de secret.py")
    mode.add_argument(
        "--dry-run", action="store_true", help="montre ce qui changerait, sans écrire"
    )
    mode.add_argument("--check", action="store_true", help="contrôle l'installation, sans écrire")
    add("--today", metavar="C", type=couleur, help="impose la couleur du jour : bleu, blanc, rouge")
    add("--tomorrow", metavar="C", type=couleur, help="impose la couleur de demain")
    add("--period", metavar="HP|HC", type=periode, help="impose la période")
    add("--no-confirm", action="store_true", help="publie sans lire : pour un broker de test")
    add("--no-notify", action="store_true", help="n'envoie pas de notification")
    verbosity.add_argument("--quiet", action="store_true", help="ne dit que ce qui ne va pas")
    verbosity.add_argument(
        "--verbose", action="store_true", help="dit aussi chaque message échangé"
    )
    add(
        "--version", action="version", version=f"tempo_ess {__version__}", help="affiche la version"
    )
    add("-h", "--help", action="help", help="affiche cette aide")
    return parser.parse_args(argv)


INACTIVE = "Schedule 1 inactif : pas de recharge programmée"


def tell_gx(ledger: Ledger, config: Config, usual: Target) -> list[str]:
    """Say what became of the settings, and what the owner should know beside them.

    The latter is returned for the push, if one is due. Whatever is looked at here must be among
    run's read_only. usual: what the last evening left, empty when today's colour was imposed.
    """
    for line in ledger.lines():
        log.info(line)
    remarks = somebody_else(ledger.written, usual, ledger.before)
    choice = ledger.owners_choice()
    if choice:  # one that was heard after the write is told with what became of the write
        remarks.append(f"{choice} : BatteryLife est {ledger.fate(BATTERY_LIFE)}")
    if config.relais:
        setting = RELAY_FUNCTIONS[config.relais]
        function = ledger.values.get(setting, MANUAL)
        if function != MANUAL:
            remarks.append(f"{setting.label} : {setting.text(function)}, {setting.advice}")
    for remark in remarks:
        log.warning(remark)
    if ledger.values.get(DAY) in INACTIVE_DAYS:  # may be a choice, so no warning
        remarks.append(INACTIVE)
        log.info(INACTIVE)
    return remarks


def run(options: argparse.Namespace, config: Config, now: datetime) -> None:
    """The evening in one straight line, or Failure with what the GX is left with."""
    imposed = {"aujourdhui": options.today, "demain": options.tomorrow, "periode": options.period}
    evening = read_evening(imposed, config, now)
    remarks = tell_evening(evening, now)
    tempo = evening.tempo()
    target = target_settings(tempo, config, now)
    read_only = [DAY]
    if tempo.periode is Periode.HC:
        read_only.append(HUB4_MODE)  # it matters to BatteryLife alone
    if config.relais:
        read_only.append(RELAY_FUNCTIONS[config.relais])
    ledger = Ledger(config.gxsn.lower(), target, read_only)
    failure: Failure | None = None
    try:
        set_gx(config, ledger, options.dry_run, options.no_confirm)
    except Failure as error:
        failure = error
    usual = {} if options.today else config.profile(tempo.aujourdhui)
    remarks += tell_gx(ledger, config, usual)
    if failure:
        prefix = f"demain {tempo.demain} : " if tempo.demain else ""
        raise type(failure)(" ; ".join([f"{prefix}{failure}", ledger.left_with(), *remarks]))
    notice = change_notice(tempo, config, ledger.fates())
    if notice:
        priority = HIGH if tempo.demain is Couleur.ROUGE else NORMAL
        push(config, " ; ".join([notice, *remarks]), priority)


def open_output() -> None:
    """Information to stdout, the rest to stderr; what cannot be written never stops a run."""
    logging.raiseExceptions = False
    logging.addLevelName(logging.INFO, "OK")
    logging.addLevelName(logging.WARNING, "attention")
    logging.addLevelName(logging.ERROR, "erreur")
    out = logging.StreamHandler(sys.stdout)
    out.addFilter(lambda record: record.levelno < logging.WARNING)
    err = logging.StreamHandler()  # to stderr
    err.setLevel(logging.WARNING)
    err.setFormatter(logging.Formatter("%(levelname)s : %(message)s"))
    log.handlers = [out, err]
    log.setLevel(logging.INFO)


def main(argv: Sequence[str] | None = None, clock: Callable[[], datetime] = paris_now) -> int:
    """Run, and translate its end into an exit code; clock gives a Paris time."""
    open_output()
    config = Config()  # as yet there is nobody to notify
    try:
        options = parse_options(argv)
        if options.quiet:
            log.setLevel(logging.WARNING)
        if options.verbose:
            log.setLevel(logging.DEBUG)
        if options.check:
            return check(options.config, options.quiet, clock())
        config = load_config(options.config)
        if options.dry_run or options.no_notify:
            config = config._replace(prowlkey="")
        run(options, config, clock())
        return Exit.OK
    except KeyboardInterrupt:
        log.error("interrompu : relancez le script, il reprendra là où il s'est arrêté")
        return 130
    except Failure as failure:
        log.error(failure)
        code, text = failure.code, str(failure)
    except Exception:
        log.exception("bogue du script, merci de le signaler avec ce qui suit")
        code, text = Exit.BUG, "bogue du script, GX peut-être à moitié réglé"
    # Not inside a handler: why() would take the failure handled there for the cause of Prowl's.
    push(config, f"Échec (code {code}) : {text}", HIGH)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
