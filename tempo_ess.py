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
import errno
import io
import json
import logging
import os
import pwd
import re
import socket
import ssl
import stat
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self, TypeVar
from uuid import uuid4
from zoneinfo import ZoneInfo

try:
    import paho.mqtt.client as mqtt
    import pyprowl  # type: ignore[import-untyped]
    import requests
    from paho.mqtt.enums import CallbackAPIVersion  # absent before paho-mqtt 2
    from paho.mqtt.reasoncodes import ReasonCode
    from requests.auth import HTTPBasicAuth
except ImportError as missing:  # the system's python instead of the venv's: the commonest slip
    command = [str(Path(__file__).resolve().parent / ".venv/bin/python"), *sys.argv]
    with suppress(OSError):
        sentence = f"erreur : {missing.name} manque à ce Python ; lancez : {' '.join(command)}\n"
        os.write(2, sentence.encode())
    raise SystemExit(2) from None

__version__ = "1.1.0"

log = logging.getLogger("tempo_ess")
T = TypeVar("T")


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

    code = Exit.BUG


class WrongUsage(Failure):
    """The command line or secret.py is wrong; nobody was contacted."""

    code = Exit.USAGE


class NoColour(Failure):
    """Today's colour is not to be had: the run ends."""

    code = Exit.COLOUR


class NoAnswer(Failure):
    """A source of colours is down or does not know: the next one is asked."""

    code = Exit.COLOUR


class TryAgain(NoAnswer):
    """A source of colours is down, and a new try may help."""


class Unreachable(Failure):
    """The GX is unreachable, or refused the login."""

    code = Exit.GX


class Unconfirmed(Failure):
    """The GX does not hold, or does not show, what it should."""

    code = Exit.UNCONFIRMED


NOTHING_WRITTEN = "Rien n'a été écrit, le GX garde ses réglages"


def sentences(*texts: str) -> str:
    """These texts, each with its full stop before the next begins."""
    ended = [text if text.endswith((".", "?")) else f"{text}." for text in texts]
    return " ".join(ended)


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


class Profile(NamedTuple):
    """The settings for a day of one colour; charge (Schedule 1 SoC) and MinSoc in percent."""

    charge: int
    min_soc: int
    battery_life: bool


PARIS = ZoneInfo("Europe/Paris")


def paris_now() -> datetime:
    """The time in Europe/Paris, whatever the machine's zone."""
    return datetime.now(PARIS)


def periode_at(now: datetime) -> Periode:
    """The period by the Paris clock."""
    if 6 <= now.hour < 22:
        return Periode.HP
    return Periode.HC


def known_days(now: datetime) -> dict[str, date]:
    """The civil dates, by Tempo's fields, of today's TEMPO day and, once it is known, the next one.

    Before 06:00 the day in force is yesterday's. RTE's choice binds at 10:30: what shows before
    11:00 may change.
    """
    today = now.date()
    if now.hour < 6:
        today -= timedelta(days=1)
    if 6 <= now.hour < 11:
        return {"aujourdhui": today}
    return {"aujourdhui": today, "demain": today + timedelta(days=1)}


# ---- Settings of the GX --------------------------------------------------------------------------

Value = float | str
STATE_ON, KEEP_CHARGED, STATE_OFF = 1, 9, 10  # 1 and 10 are the only States written
STATES_ON, STATES_OFF = range(1, 9), range(10, 13)
INACTIVE_DAYS = range(-11, 0)  # of a schedule's Day: the day is kept, negated
EXTERNAL_CONTROL = 3  # a Hub4Mode
MANUAL = 2  # a relay's function: the only one with which a write holds
EVERY_DAY = 7  # of a schedule's Day


class Setting(NamedTuple):
    """A value on the GX: its path below N/<sn>/, R/<sn>/ and W/<sn>/, its label, its look."""

    path: str
    label: str
    unit: str = ""
    scale: int = 1  # GX values in one unit
    names: tuple[tuple[float, str], ...] = ()
    is_text: bool = False

    def text(self, value: Any) -> str:
        """The value for a person; ? for one that is not known."""
        if value is None:
            return "?"
        if self.is_text:
            return shown(value)
        return dict(self.names).get(value) or f"{value / self.scale:g}{self.unit}"


# What a person chooses behind a raw BatteryLife/State: the GX itself moves 1 to 2..8 and 10 to 11
# or 12; 9 is the owner's own choice [dbus-systemcalc-py].
ESS_MODES = (
    *((state, "on") for state in STATES_ON),
    (KEEP_CHARGED, "Keep batteries charged"),
    *((state, "off") for state in STATES_OFF),
)
DAYS = ((EVERY_DAY, "tous les jours"), *((day, "inactif") for day in INACTIVE_DAYS))
CGWACS = "settings/0/Settings/CGwacs/"
SCHEDULES = CGWACS + "BatteryLife/Schedule/Charge/"
SOC = Setting(SCHEDULES + "0/Soc", "Schedule 1 SoC", " %")
MIN_SOC = Setting(CGWACS + "BatteryLife/MinimumSocLimit", "MinSoc", " %")
BATTERY_LIFE = Setting(CGWACS + "BatteryLife/State", "BatteryLife", names=ESS_MODES)
DAY = Setting(SCHEDULES + "0/Day", "Schedule 1 Day", names=DAYS)
HUB4_MODES = ((1, "ESS"), (2, "ESS"), (EXTERNAL_CONTROL, "contrôle externe"))
HUB4_MODE = Setting(CGWACS + "Hub4Mode", "Mode ESS (Hub4Mode)", names=HUB4_MODES)
RELAY_STATES = ((0, "ouvert"), (1, "fermé"))
RELAYS = {
    1: Setting("system/0/Relay/0/State", "Relais 1", names=RELAY_STATES),
    2: Setting("system/0/Relay/1/State", "Relais 2", names=RELAY_STATES),
}
FUNCTIONS = ((-1, "désactivée"), (0, "alarme"), (MANUAL, "Manual"))  # with -1 there is no State
RELAY_FUNCTIONS = {
    1: Setting("settings/0/Settings/Relay/Function", "fonction relais 1", names=FUNCTIONS),
    2: Setting("settings/0/Settings/Relay/1/Function", "fonction relais 2", names=FUNCTIONS),
}
RELAY_MENU = "Settings > Integrations > Relays > Function : Manual"


def agrees(setting: Setting, value: Value | None, target: Value) -> bool:
    """Whether the GX holds the target: BatteryLife by mode, numbers as numbers (30.0 is 30)."""
    if setting is BATTERY_LIFE:
        return setting.text(value) == setting.text(target)
    return value == target


def owners_choice(values: Mapping[Setting, Value]) -> str | None:
    """The ESS mode that the owner chose and under which BatteryLife is left alone, if any."""
    if values.get(HUB4_MODE) == EXTERNAL_CONTROL:
        return "contrôle externe (Hub4Mode 3)"
    if values.get(BATTERY_LIFE) == KEEP_CHARGED:
        return "Keep batteries charged (State 9)"
    return None


# ---- Configuration -------------------------------------------------------------------------------


class Relay(NamedTuple):
    """The relay to drive: 1 or 2, closed on days of these colours between two times like 06:00."""

    number: int
    couleurs: Collection[str]
    debut: str
    fin: str


class Config(NamedTuple):
    """secret.py, checked; None is "not set". The GX's certificate is there when TLS is wanted."""

    ecodevice: str | None
    ecouser: str | None
    ecopassword: str | None
    ecoinput: int
    use_eco: bool
    use_api: bool
    gx: str | None
    gxsn: str | None
    gxport: int
    gxcert: Path | None
    gxpassword: str | None
    prowlkey: str | None
    profiles: Mapping[Couleur, Profile]
    relay: Relay | None


HIDDEN = ("prowlkey", "gxpassword", "ecopassword")
Rule = Callable[[Any], bool]


def is_text(value: Any) -> bool:
    """One line of text."""
    return isinstance(value, str) and value.isprintable()


def is_flag(value: Any) -> bool:
    """True or False."""
    return isinstance(value, bool)


def are_couleurs(value: Any) -> bool:
    """A list of TEMPO colours."""
    return isinstance(value, list | tuple) and all(one in list(Couleur) for one in value)


def matches(pattern: str) -> Rule:
    """The rule for a text of this form."""
    return lambda value: is_text(value) and re.fullmatch(pattern, value) is not None


ADDRESS = matches(r"[^\s,/]+")
HOST = matches(r"[^\s,/:]+|[^\s,/]*:[^\s,/]*:[^\s,/]*")  # no port; IPv6 has several colons
SERIAL = matches("[0-9A-Fa-f]{12}")
TIME = matches("([01][0-9]|2[0-3]):[0-5][0-9]")


class Secret:
    """The variables of secret.py, taken one rule at a time; what is wrong is kept to be told."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names = names
        self.defaults: dict[str, Any] = {}  # of every name that a rule asked for
        self.problems: dict[str, str] = {}  # by name

    def take(self, name: str, default: Any, right: Rule, wanted: str) -> Any:
        """The value of this name; the default when it is missing, empty or wrong."""
        self.defaults[name] = default
        value = self.names.get(name, default)
        if isinstance(value, str):
            value = value.strip() or default
        if value is default or right(value):  # not ==: 1 is no True
            return value
        told = repr(value)[:40]
        if name in HIDDEN:
            told = "(masqué)"
        self.problems[name] = f"{name} = {told} : il faut {wanted}"
        return default

    def need(self, name: str, right: Rule, wanted: str) -> Any:
        """The same for a name that has no default."""
        value = self.take(name, None, right, wanted)
        if value is None:
            self.problems.setdefault(name, f"{name} manque : il faut {wanted}")
        return value

    def are_fine(self, *names: str) -> bool:
        """Whether each is right in itself, so that they can be compared."""
        return not self.problems.keys() & set(names)

    def text(self, name: str) -> Any:
        """A text, or None."""
        return self.take(name, None, is_text, "un texte entre guillemets droits, sur une ligne")

    def flag(self, name: str, default: bool) -> Any:
        """A choice."""
        return self.take(name, default, is_flag, "True ou False")

    def number(self, name: str, default: int | None, low: int, high: int) -> Any:
        """A whole number from low to high."""

        def is_right(value: Any) -> bool:
            return type(value) is int and low <= value <= high

        wanted = f"un nombre entier de {low} à {high}, sans guillemets"
        return self.take(name, default, is_right, wanted)

    def profile(self, charge: str, min_soc: str, battery_life: str, default: Profile) -> Profile:
        """The three settings of a colour under these names."""
        profile = Profile(
            self.number(charge, default.charge, 10, 100),
            self.number(min_soc, default.min_soc, 10, 100),
            self.flag(battery_life, default.battery_life),
        )
        if profile.min_soc > profile.charge and self.are_fine(charge, min_soc):
            told = f"{min_soc} = {profile.min_soc}, {charge} = {profile.charge}"
            self.problems[charge] = f"{told} : {min_soc} ne doit pas dépasser {charge}"
        return profile

    def relay(self) -> Relay | None:
        """The relay, if one is to be driven."""
        number = self.number("relais", None, 1, 2)
        wanted = 'une liste comme ["BLANC", "ROUGE"]'
        couleurs = self.take("relais_couleurs", ["BLANC", "ROUGE"], are_couleurs, wanted)
        debut = self.take("relais_debut", "06:00", TIME, 'une heure comme "06:00"')
        fin = self.take("relais_fin", "22:00", TIME, 'une heure comme "22:00"')
        if debut >= fin and self.are_fine("relais_debut", "relais_fin"):
            told = f"relais_debut = {debut}, relais_fin = {fin}"
            self.problems["relais_fin"] = f"{told} : il faut le début avant la fin"
        if number is None:
            return None
        return Relay(number, couleurs, debut, fin)

    def certificate(self, gxtls: bool, folder: Path, where: str) -> Path | None:
        """The file of the GX's own certificate, beside secret.py; None when it is of no use."""
        name = self.text("gxcert")
        if not gxtls:
            return None
        trouble = "gxcert manque"
        if name:
            try:
                pinned_context(folder / name)
                return folder / str(name)
            except (OSError, ValueError):
                trouble = f"gxcert = {name} : pas de certificat lisible"
        advice = f"il s'obtient par {fetch_certificate(where)}"
        self.problems.setdefault("gxcert", f"{trouble} ; {advice}")
        return None

    def hints(self) -> list[str]:
        """Names that look mistyped."""
        hints = []
        for name, value in self.names.items():
            if name in self.defaults or name.startswith("_") or hasattr(value, "__name__"):
                continue
            near = difflib.get_close_matches(name.lower(), self.defaults, 1, 0.75)
            if near:
                hints.append(f"{name} inconnu : vouliez-vous dire {near[0]} ?")
        return hints


def fetch_certificate(where: str) -> str:
    """The command that fetches the certificate of the GX at this address and port."""
    return f"openssl s_client -connect {where} </dev/null | openssl x509 > gx.crt"


def pinned_context(cert: Path) -> ssl.SSLContext:
    """TLS that trusts this one certificate; OSError when the file is not one.

    The GX's is self-signed, CN=venus.local, without SAN, so a name check is impossible. Not
    create_default_context, which grows stricter (VERIFY_X509_STRICT from Python 3.13 on).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cert)
    return context


def read_config(secret: Secret, folder: Path) -> Config:
    """Every rule of secret.py, in one place."""
    address = 'un nom, ou une adresse avec des points comme "192.168.1.50", sans http://'
    use_eco, use_api = secret.flag("use_eco", True), secret.flag("use_api", True)
    if not use_eco and not use_api:
        secret.problems["use_api"] = "use_eco = False, use_api = False : il faut une source"
    if use_eco:
        without = " (sans EcoDevice : use_eco = False)"
        ecodevice = secret.need("ecodevice", ADDRESS, address + without)
    else:
        ecodevice = secret.text("ecodevice")
    gx = secret.need("gx", HOST, address + " ni port (il se met dans gxport)")
    gxsn = secret.need("gxsn", SERIAL, "12 chiffres hexadécimaux, le VRM Portal ID")
    gxtls = secret.flag("gxtls", False)
    gxport = secret.number("gxport", None, 1, 65535) or (8883 if gxtls else 1883)
    where = f"{gx or 'ADRESSE_DU_GX'}:{gxport}"
    return Config(
        ecodevice=ecodevice,
        ecouser=secret.text("ecouser"),
        ecopassword=secret.text("ecopassword"),
        ecoinput=secret.number("ecoinput", 1, 1, 2),
        use_eco=use_eco,
        use_api=use_api,
        gx=gx,
        gxsn=gxsn and gxsn.lower(),
        gxport=gxport,
        gxcert=secret.certificate(gxtls, folder, where),
        gxpassword=secret.text("gxpassword"),
        prowlkey=secret.text("prowlkey"),
        profiles={
            Couleur.BLEU: secret.profile("chgbleu", "minbleu", "blbleu", Profile(80, 30, True)),
            Couleur.BLANC: secret.profile("chgblanc", "minblanc", "blblanc", Profile(90, 30, True)),
            Couleur.ROUGE: secret.profile(
                "chgrouge", "minrouge", "blrouge", Profile(100, 25, False)
            ),
        },
        relay=secret.relay(),
    )


def user_name(uid: int) -> str:
    """A user's name, or number when there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def read_source(path: Path) -> bytes:
    """The text of secret.py, which cron will execute; WrongUsage when it is absent or unsafe."""
    try:
        status = path.stat()
        source = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
    except FileNotFoundError:
        raise WrongUsage(f"{path} est absent : copiez secret.py.example et remplissez-le") from None
    except OSError:
        source = None
    if source is None:
        raise WrongUsage(f"{path} n'est pas un fichier que cet utilisateur peut lire")
    if status.st_mode & stat.S_IWOTH:
        raise WrongUsage(f"{path} est modifiable par tous, et cron l'exécute : chmod 600 {path}")
    if status.st_uid not in (os.geteuid(), 0):
        owner, user = user_name(status.st_uid), user_name(os.geteuid())
        raise WrongUsage(
            f"{path} est à {owner}, mais le script tourne sous {user} :"
            f" lancez-le sous {owner}, sans sudo"
        )
    return source


def mistake_in(path: Path, error: BaseException) -> str:
    """What is wrong in secret.py, by its place alone: its text can show a key."""
    frame = error.__traceback__ and error.__traceback__.tb_next
    line = frame.tb_lineno if frame else None
    trouble = f"erreur Python {type(error).__name__}"
    if isinstance(error, NameError):
        trouble = "un texte sans guillemets droits, ou un choix autre que True ou False"
    if isinstance(error, SyntaxError):
        line = error.lineno
        trouble = "mal écrit (texte sans guillemets droits, nombre avec %, espace devant un nom ?)"
    if line:
        return f"{path}, ligne {line} : {trouble}"
    return f"{path} : {trouble}"


def examine(path: Path) -> tuple[Config, Secret]:
    """secret.py: what is usable of it, and what is wrong; WrongUsage when it cannot be run."""
    source = read_source(path)
    names: dict[str, Any] = {"__name__": "secret", "__file__": str(path)}
    try:
        with warnings.catch_warnings(action="ignore"):  # they quote the line
            exec(compile(source, str(path), "exec"), names)
    except (Exception, SystemExit) as error:
        raise WrongUsage(mistake_in(path, error)) from None
    secret = Secret(names)
    return read_config(secret, path.parent), secret


def load_config(path: Path) -> Config:
    """The configuration; WrongUsage with every problem at once, before anything is contacted."""
    config, secret = examine(path)
    for hint in secret.hints():
        log.warning("%s : %s", path, hint)
    if secret.problems:
        heading = f"{path} est à corriger, rien n'a été contacté :"
        raise WrongUsage("\n  ".join([heading, *secret.problems.values()]))
    return config


# ---- Decision: no clock, no log, no network ------------------------------------------------------

Target = dict[Setting, int]


def profile_settings(profile: Profile) -> Target:
    """What the GX holds on a day with this profile."""
    state = STATE_ON if profile.battery_life else STATE_OFF
    return {SOC: profile.charge, MIN_SOC: profile.min_soc, BATTERY_LIFE: state}


def target_settings(tempo: Tempo, config: Config, now: datetime) -> Target:
    """What the GX is to hold after a run at this Paris time.

    HP: the charge alone, since raising MinSoc or turning BatteryLife on can start a recharge at
    peak price. HC: all three; while demain is unknown, the charge stays as the 20:05 run left it.
    """
    target = profile_settings(config.profiles[tempo.demain or tempo.aujourdhui])
    if tempo.periode is Periode.HP:
        target = {SOC: target[SOC]}
    elif tempo.demain is None:
        del target[SOC]
    relay = config.relay
    if relay:
        in_time = relay.debut <= now.strftime("%H:%M") < relay.fin
        target[RELAYS[relay.number]] = int(in_time and tempo.aujourdhui in relay.couleurs)
    return target


def somebody_else(written: Target, today: Profile, before: Mapping[Setting, Value]) -> list[str]:
    """Settings that held neither the target before this run wrote them nor today's value.

    Today's is what the last evening set.
    """
    told = []
    for setting, expected in profile_settings(today).items():
        if setting not in written or setting not in before:
            continue
        held = before[setting]
        if agrees(setting, held, expected) or agrees(setting, held, written[setting]):
            continue
        told.append(
            f"{setting.label} était à {setting.text(held)} au lieu de {setting.text(expected)} :"
            " changé à la main, par un autre programme (evcc, VRM), ou une soirée manquée ?"
        )
    return told


class Fate(StrEnum):
    """What became of one setting in this run."""

    KEPT = "déjà en place"
    CONFIRMED = "confirmé"
    PUBLISHED = "publié, non confirmé"
    REFUSED = "refusé par le GX"
    PENDING = "non écrit"
    MUTE = "réglage sans réponse"
    OWNERS = "laissé tel quel"


def change_notice(tempo: Tempo, config: Config, fates: Mapping[Setting, Fate]) -> str | None:
    """The push for a change of colour, claiming only what was confirmed; None when none is due.

    For a run that went well: what was refused or silent never comes here. In HP it is always
    due, in HC (with all three settings, since demain is known) only when the run changed something.
    """
    if tempo.demain is None or tempo.demain is tempo.aujourdhui:
        return None
    plan = profile_settings(config.profiles[tempo.demain])
    charge = f"charge {SOC.text(plan[SOC])}"
    min_soc = f"MinSoc {MIN_SOC.text(plan[MIN_SOC])}"
    battery_life = f"BatteryLife {BATTERY_LIFE.text(plan[BATTERY_LIFE])}"
    ours = [fates[one] for one in plan if one in fates]
    unsure = Fate.PUBLISHED in ours
    if tempo.periode is Periode.HP:
        sure = Fate.PUBLISHED if unsure else "confirmée"
        return f"Demain {tempo.demain} : {charge} ({sure}) ; à 22 h {min_soc}, {battery_life}"
    if not unsure and Fate.CONFIRMED not in ours:
        return None
    told = [min_soc, battery_life]
    if fates[BATTERY_LIFE] is Fate.OWNERS:
        told = [min_soc]
    if fates[SOC] is not Fate.KEPT:
        told.insert(0, charge)
    if unsure:
        return f"Demain {tempo.demain} : {', '.join(told)} ({Fate.PUBLISHED})"
    sure = "confirmés" if len(told) > 1 else "confirmé"
    notice = f"Demain {tempo.demain}, prêt : {', '.join(told)} ({sure})"
    if fates[BATTERY_LIFE] is Fate.OWNERS:
        notice += f" ; BatteryLife {Fate.OWNERS}"
    return notice


# ---- Waiting and HTTP ----------------------------------------------------------------------------

# Seconds. A whole run: EcoDevice 28, web 3 x 15, GX 150 and 1, Prowl 15: under 5 minutes.
ECODEVICE_TRIES = 3
ECODEVICE_TRY = 8.0
ECODEVICE_PAUSE = 2.0  # polls closer than that make it unstable (tests/FACTS.md, EcoDevice)
WEB_SOURCE = 15.0
PROWL = 15.0
MAX_BODY = 64 * 1024  # bytes taken of an HTTP answer


def bounded(seconds: float, call: Callable[[], T]) -> T:
    """The result of call(), or TimeoutError after so many seconds, while it goes on in a thread.

    For whatever cannot be trusted to return: DNS, a body that drips, pyprowl.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(max(0.0, seconds))
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]


WORDS: list[tuple[type[BaseException], str]] = [  # the first that fits
    (requests.RequestException, "requête impossible"),
    (socket.gaierror, "nom inconnu du réseau"),
    (TimeoutError, "pas de réponse à temps"),
    (ConnectionRefusedError, "connexion refusée"),
    (ConnectionError, "connexion coupée"),
    (ssl.SSLError, "échec TLS"),
    (OSError, "réseau injoignable"),
    (BaseException, "réponse illisible"),
]


def why(error: BaseException) -> str:
    """French words for a peer's failure, from its first cause.

    Never the exception's own words, which can hold a key or the peer's bytes.
    """
    while cause := error.__cause__ or error.__context__:
        error = cause
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.EHOSTDOWN):
        return "aucun appareil à cette adresse"
    return next(words for kind, words in WORDS if isinstance(error, kind))


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in body, else ValueError; a DEMAIN may hold a raw newline."""
    try:
        value = json.loads(body.decode("utf-8-sig", "replace"), strict=False)
    except RecursionError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def http_get(url: str, timeout: float, session: requests.Session) -> tuple[int, bytes]:
    """Status and body; a body is read only of a 200, and redirects are not followed."""
    with session.get(url, timeout=timeout, stream=True, allow_redirects=False) as answer:
        body = b""
        if answer.status_code == 200:
            for chunk in answer.iter_content(4096):
                body += chunk
                if len(body) >= MAX_BODY:
                    break
        return answer.status_code, body[:MAX_BODY]


def fetch(url: str, deadline: float, session: requests.Session) -> dict[str, Any]:
    """The JSON object at url, got before the deadline (monotonic clock).

    TryAgain when the peer fails, NoAnswer for an HTTP status that a new try would not change.
    """
    log.debug("HTTP GET %s", url)
    seconds = max(0.1, deadline - time.monotonic())
    try:
        status, body = bounded(seconds, lambda: http_get(url, seconds, session))
        log.debug("HTTP %d, %d octets", status, len(body))
        if status == 200:
            return json_object(body)
    except (OSError, ValueError) as error:
        raise TryAgain(why(error)) from None
    if status >= 500:
        raise TryAgain(f"réponse HTTP {status}")
    raise NoAnswer(f"réponse HTTP {status}")


# ---- Colours -------------------------------------------------------------------------------------

PTEC = {
    "HPJB": (Couleur.BLEU, Periode.HP),
    "HCJB": (Couleur.BLEU, Periode.HC),
    "HPJW": (Couleur.BLANC, Periode.HP),
    "HCJW": (Couleur.BLANC, Periode.HC),
    "HPJR": (Couleur.ROUGE, Periode.HP),
    "HCJR": (Couleur.ROUGE, Periode.HC),
}
# DEMAIN has 4 characters [Enedis NOI-CPT_54E].
DEMAIN = {"BLEU": Couleur.BLEU, "BLAN": Couleur.BLANC, "ROUG": Couleur.ROUGE}
CONTRATS = {
    "TH..": "Base",
    "HC..": "heures creuses",
    "HP..": "heures creuses",
    "HN..": "EJP",
    "PM..": "EJP",
}


def parse_ecodevice(answer: Mapping[str, Any], ecoinput: int) -> Tempo:
    """The colours and the period in an EcoDevice v1's answer.

    NoAnswer when PTEC is no code (---- is an unplugged téléinfo), NoColour for another contract.
    A DEMAIN that is not exactly a colour is not announced: never BLEU, never a guess.
    """
    ptec = str(answer.get(f"T{ecoinput}_PTEC"))
    if ptec in CONTRATS:
        raise NoColour(
            f"le contrat du compteur est {CONTRATS[ptec]} (PTEC {ptec}), pas TEMPO :"
            " vérifiez l'abonnement, ou ecoinput dans secret.py"
        )
    if ptec not in PTEC:
        raise NoAnswer(f"pas de code TEMPO, PTEC {shown(ptec)} (téléinfo débranchée ?)")
    aujourdhui, periode = PTEC[ptec]
    return Tempo(aujourdhui, DEMAIN.get(str(answer.get(f"T{ecoinput}_DEMAIN"))), periode)


def fetch_ecodevice(config: Config) -> dict[str, Any]:
    """The EcoDevice's answer, in three tries; NoAnswer when there is none."""
    session = requests.Session()
    session.trust_env = False  # a device on the LAN: no proxy and no netrc
    if config.ecouser and config.ecopassword:
        session.auth = HTTPBasicAuth(config.ecouser.encode(), config.ecopassword.encode())
    url = f"http://{config.ecodevice}/api/xdevices.json?cmd=10"
    for _ in range(ECODEVICE_TRIES - 1):
        try:
            return fetch(url, time.monotonic() + ECODEVICE_TRY, session)
        except TryAgain:
            time.sleep(ECODEVICE_PAUSE)
    return fetch(url, time.monotonic() + ECODEVICE_TRY, session)


def ask_ecodevice(config: Config) -> Tempo:
    """The colours and the period from the meter; NoAnswer or NoColour."""
    try:
        return parse_ecodevice(fetch_ecodevice(config), config.ecoinput)
    except NoAnswer as failure:
        advice = f"ouvrez http://{config.ecodevice} dans un navigateur"
        raise NoAnswer(f"EcoDevice ({config.ecodevice}) : {failure} ; {advice}") from None


# Every web source gives colours by civil date, written as in 2026-11-24. A parser may trip with one
# of these errors over an answer of another shape.
Calendar = dict[str, Couleur]
OTHER_SHAPE = (LookupError, TypeError, AttributeError)

RTE = "https://www.services-rte.com/cms/open_data/v1/tempoLight"
RTE_CODES = {"BLUE": Couleur.BLEU, "WHITE": Couleur.BLANC, "RED": Couleur.ROUGE}
# The supplier's own calendar, as its customer site asks for it: independent of RTE's file, but
# undocumented, so it may change.
EDF = "https://api-commerce.edf.fr/commerce/activet/v1/calendrier-jours-effacement"
EDF_HEADERS = {
    "Accept": "application/json",
    "Application-Origine-Controlee": "site_RC",
    "Situation-Usage": "Jours Effacement",
}
EDF_CODES = {
    "TEMPO_BLEU": Couleur.BLEU,
    "TEMPO_BLANC": Couleur.BLANC,
    "TEMPO_ROUGE": Couleur.ROUGE,
}
API = "https://www.api-couleur-tempo.fr/api/jourTempo/"
API_CODES = {1: Couleur.BLEU, 2: Couleur.BLANC, 3: Couleur.ROUGE}


def parse_rte(answer: Mapping[str, Any]) -> Calendar:
    """The colours in RTE's tempoLight; the -fallback keys are no dates."""
    values = answer["values"].items()
    return {day: RTE_CODES[code] for day, code in values if code in RTE_CODES}


def ask_rte(_days: Sequence[date], deadline: float) -> Calendar:
    """RTE's colours; it answers for two days of its own choosing."""
    return parse_rte(fetch(RTE, deadline, requests.Session()))


def parse_edf(answer: Mapping[str, Any]) -> Calendar:
    """The colours in EDF's calendar; NON_DEFINI is not announced."""
    calendar: Calendar = {}
    for option in answer["content"]["options"]:
        for day in option["calendrier"]:
            if option["option"] == "TEMPO" and day["statut"] in EDF_CODES:
                calendar[day["dateApplication"]] = EDF_CODES[day["statut"]]
    return calendar


def ask_edf(days: Sequence[date], deadline: float) -> Calendar:
    """EDF's colours, all days in one request."""
    session = requests.Session()
    session.headers.update(EDF_HEADERS)
    bounds = f"dateApplicationBorneInf={days[0]}&dateApplicationBorneSup={days[-1]}"
    url = f"{EDF}?option=TEMPO&{bounds}&identifiantConsommateur=src"
    return parse_edf(fetch(url, deadline, session))


def parse_api(answer: Mapping[str, Any]) -> Calendar:
    """The colour in api-couleur-tempo.fr's answer for one day; 0 is "unknown"."""
    code = answer["codeJour"]
    if type(code) is int and code in API_CODES:
        return {answer["dateJour"]: API_CODES[code]}
    return {}


def ask_api(days: Sequence[date], deadline: float) -> Calendar:
    """api-couleur-tempo.fr's colours, a request for each day."""
    calendar: Calendar = {}
    for day in days:
        try:
            calendar |= parse_api(fetch(f"{API}{day}", deadline, requests.Session()))
        except (NoAnswer, *OTHER_SHAPE):
            if not calendar:
                raise
            # What is known of the first day is not lost with the second.
    return calendar


WEB_SOURCES: dict[str, Callable[[Sequence[date], float], Calendar]] = {  # in the order of asking
    "RTE": ask_rte,
    "EDF": ask_edf,
    "api-couleur-tempo.fr": ask_api,
}


def ask_web(source: str, days: Mapping[str, date]) -> dict[str, Couleur]:
    """The colours of these days (see known_days), as far as the source knows; else NoAnswer."""
    try:
        calendar = WEB_SOURCES[source](list(days.values()), time.monotonic() + WEB_SOURCE)
    except OTHER_SHAPE:
        raise NoAnswer("réponse d'une autre forme") from None
    found = {name: calendar[str(day)] for name, day in days.items() if str(day) in calendar}
    if not found:
        raise NoAnswer("ne sait pas")
    return found


class Evening:
    """The evening's facts as they are found, by Tempo's fields; the first to know counts."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.silent: list[str] = []  # what the others said

    def learn(self, source: str, found: Mapping[str, Any]) -> None:
        """Take in what this source found; None is nothing."""
        for name, value in found.items():
            if value is not None and name not in self.found:
                self.found[name] = value
                self.sources[name] = source

    def tempo(self) -> Tempo:
        """The three facts, once today's colour and the period are known."""
        return Tempo(self.found["aujourdhui"], self.found.get("demain"), self.found["periode"])


def learn_from_web(evening: Evening, now: datetime) -> None:
    """Ask the web sources in turn, until the evening's days are known."""
    wanted = known_days(now)
    for source in WEB_SOURCES:
        days = {name: day for name, day in wanted.items() if name not in evening.found}
        if not days:
            return
        trouble = "ne sait pas tout"
        try:
            evening.learn(source, ask_web(source, days))
        except NoAnswer as failure:
            trouble = str(failure)
        if days.keys() - evening.found.keys():
            evening.silent.append(f"{source} : {trouble}")
            log.info("%s : %s", source, trouble)


def read_evening(imposed: Mapping[str, Any], config: Config, now: datetime) -> Evening:
    """The colours and the period: what the owner imposes, else the EcoDevice's, else the web's.

    NoColour when nobody knows today's colour, or the meter's contract is another.
    """
    evening = Evening()
    evening.learn("imposé", imposed)
    if {"aujourdhui", "periode"} <= evening.found.keys():
        return evening  # a trial: nobody is asked, not even for demain
    if config.use_eco:
        try:
            evening.learn("EcoDevice", ask_ecodevice(config)._asdict())
        except NoAnswer as failure:
            evening.silent.append(str(failure))
            log.warning("%s", failure)
    if config.use_api:
        learn_from_web(evening, now)
    evening.learn("horloge", {"periode": periode_at(now)})
    if "aujourdhui" not in evening.found:
        raise NoColour(f"couleur du jour inconnue ({' ; '.join(evening.silent)})")
    return evening


def tell_evening(evening: Evening, now: datetime) -> None:
    """Say the colours, where they come from, and what the owner should know of them."""
    tempo, sources = evening.tempo(), evening.sources
    told = f"aujourd'hui {tempo.aujourdhui} ({sources['aujourdhui']})"
    if tempo.demain:
        told += f", demain {tempo.demain} ({sources['demain']})"
    source = sources["periode"].replace("imposé", "imposée")  # une période
    log.info("TEMPO : %s, période %s (%s)", told, tempo.periode, source)
    if tempo.demain is None:
        costly = tempo.periode is Periode.HC and tempo.aujourdhui is not Couleur.BLEU
        level = logging.WARNING if costly else logging.INFO
        log.log(level, "couleur de demain non annoncée, on garde celle du jour")
    match source, tempo.periode, periode_at(now):
        case "EcoDevice", Periode.HP, Periode.HC:
            log.warning(
                "le compteur est encore en HP : dans la crontab, mettez la ligne de 22:02"
                " quelques minutes après le début de vos heures creuses"
            )
        case "imposée", Periode.HC, Periode.HP:
            log.warning(
                "heures creuses imposées en pleines heures pleines :"
                " une recharge au prix fort peut commencer tout de suite"
            )


# ---- GX, what is known ---------------------------------------------------------------------------

TOPIC = re.compile(r"N/(?P<serial>[^/]+)/(?P<path>.+)")
SERIAL_PATH = "system/0/Serial"


def value_in(payload: bytes, is_text: bool) -> Value | None:
    """The value in an N/ message; None for what is no answer: no JSON, no number (or no text)."""
    try:
        value: Any = json_object(payload).get("value")
    except ValueError:
        return None
    if is_text:
        return value if isinstance(value, str) else None
    return value if type(value) in (int, float) and abs(value) < 1e9 else None  # NaN is not


class Ledger:
    """What a run wants of the GX with this serial, heard of it and wrote. No broker here.

    Read empties `values` and fills it; a write or an empty N/ removes a value, and the next
    answer brings it back. `before` and `heard` stay: the first and the last that was heard.
    """

    def __init__(self, serial: str, target: Target, read_only: Collection[Setting]) -> None:
        self.serial = serial
        self.target = target
        self.read_only = read_only
        self.before: dict[Setting, Value] = {}  # the first answers of the run
        self.heard: dict[Setting, Value] = {}  # the last answers, even those taken back
        self.values: dict[Setting, Value] = {}  # what the GX holds, as far as is known now
        self.awaited: set[Setting] = set()  # written since the last Read
        self.written: set[Setting] = set()  # written in this run
        self.mute: set[Setting] = set()  # given up, others having answered
        self.serials: set[str] = set()  # announced on this broker
        self.alive = False  # an N/<serial>/ message came: a real GX
        self.taken_back = False  # the settings service went away since the last Read
        self.troubled = False  # a try to connect failed, or a connection was lost

    def settings(self) -> list[Setting]:
        """All that this run reads, what is read only first."""
        return [*self.read_only, *self.target]

    def hear(self, topic: str, payload: bytes, retained: bool) -> None:
        """Take in a message; a retained one (old Venus) is no answer, only a sign of life."""
        match = TOPIC.fullmatch(topic)
        if match is None:
            return
        if match["path"] == SERIAL_PATH:
            self.serials.add(match["serial"])
        if match["serial"] == self.serial:
            self.alive = True
            for setting in self.settings():
                if setting.path == match["path"] and not retained:
                    self.take(setting, payload)

    def take(self, setting: Setting, payload: bytes) -> None:
        """Take an answer in, or, when it is empty, what was known of this setting back."""
        value = value_in(payload, setting.is_text)
        if value is not None:
            self.values[setting] = value
            self.heard[setting] = value
            self.before.setdefault(setting, value)
        if not payload:
            self.values.pop(setting, None)
            self.taken_back = True

    def start_reading(self) -> None:
        """Forget what may no longer be true."""
        self.values.clear()
        self.awaited.clear()
        self.mute.clear()

    def write(self, setting: Setting) -> None:
        """Note that it is being written: what it showed counts no more."""
        self.written.add(setting)
        self.awaited.add(setting)
        self.values.pop(setting, None)

    def is_right(self, setting: Setting) -> bool:
        """Whether a setting of the target is known to hold it."""
        return agrees(setting, self.values.get(setting), self.target[setting])

    def missing(self, settings: Iterable[Setting]) -> list[Setting]:
        """Those of these settings that are still to answer or, if written, to show the target."""
        missing = []
        for setting in settings:
            # An old answer can come after the write, when the GX is slow.
            stale = setting in self.awaited and not self.is_right(setting)
            if setting not in self.mute and (stale or setting not in self.values):
                missing.append(setting)
        return missing

    def is_owners(self, setting: Setting) -> bool:
        """Whether the owner's choice, as it was last heard, is to leave this setting alone."""
        return setting is BATTERY_LIFE and owners_choice(self.heard) is not None

    def changes(self) -> Target:
        """What is to be written: what is held otherwise, or was written and is not shown yet.

        Never against the owner's choice.
        """
        changes = {}
        for setting, target in self.target.items():
            known = setting in self.values or setting in self.awaited
            if known and not self.is_right(setting) and not self.is_owners(setting):
                changes[setting] = target
        return changes

    def may_still_answer(self) -> bool:
        """A real GX is there, or one may be on its way up, as a refused or cut try shows.

        Not when others are announced: gxsn is wrong, or the GX is elsewhere.
        """
        return self.alive or (self.troubled and not self.serials)

    def fate(self, setting: Setting) -> Fate:
        """What became of a setting of the target."""
        if setting not in self.values:
            if setting in self.written:
                return Fate.PUBLISHED
            return Fate.MUTE if setting in self.mute else Fate.PENDING
        if setting in self.written:
            return Fate.CONFIRMED if self.is_right(setting) else Fate.REFUSED
        if self.is_owners(setting):
            return Fate.OWNERS
        return Fate.KEPT if self.is_right(setting) else Fate.PENDING

    def fates(self) -> dict[Setting, Fate]:
        """What became of every setting of the target."""
        return {setting: self.fate(setting) for setting in self.target}

    def line(self, setting: Setting) -> str:
        """The sentence that says what became of a setting."""
        fate = self.fate(setting)
        held = setting.text(self.values.get(setting))
        if fate in (Fate.KEPT, Fate.OWNERS):
            return f"{setting.label} : {held}, {fate}"
        before = setting.text(self.before.get(setting))
        line = f"{setting.label} : {before} -> {setting.text(self.target[setting])}, {fate}"
        if fate is Fate.REFUSED:
            line += f", reste à {held}"
        return line

    def left_with(self) -> str:
        """What a failed run leaves on the GX."""
        if not self.written:
            return NOTHING_WRITTEN
        return " ; ".join(self.line(setting) for setting in self.target)


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
CLOSE = 1.0
# MQTT 3.1.1's CONNACK 4 and 5, by the names that paho-mqtt gives them.
LOGIN_REFUSED = ("Bad user name or password", "Not authorized")


class NotLetIn(Exception):
    """A try to connect failed, or a connection was lost: a new try may help. In French words."""


def no_delay(_client: mqtt.Client, _data: object, sock: Any) -> None:
    """Without it Nagle's algorithm holds an R/ that follows a W/ back for 40 ms."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Link:
    """One connection to the GX's broker, serving a ledger; at its end it disconnects in order."""

    def __init__(self, config: Config, ledger: Ledger, deadline: float) -> None:
        """deadline: the end of all waiting, on the monotonic clock."""
        self.config = config
        self.ledger = ledger
        self.deadline = deadline
        self.where = f"{config.gx}:{config.gxport}"
        self.connack: ReasonCode | None = None
        name = f"tempo_ess-{uuid4().hex[:12]}"  # no second run shares it
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, name, clean_session=True, reconnect_on_failure=False
        )
        self.client.on_connect = self.on_connect
        self.client.on_message = self.on_message
        self.client.on_socket_open = no_delay

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect in order: what was published is on the wire before the socket closes."""
        with suppress(NotLetIn):
            self.client.disconnect()
            self.serve(lambda: self.client.socket() is None, CLOSE)

    def on_connect(
        self, _client: object, _data: object, _flags: object, reason: ReasonCode, _props: object
    ) -> None:
        """Keep the broker's CONNACK."""
        self.connack = reason

    def on_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        """Hand an N/ message to the ledger."""
        payload = bytes(message.payload)
        log.debug("MQTT <- %s %s", shown(message.topic), shown(payload.decode(errors="replace")))
        self.ledger.hear(message.topic, payload, message.retain)

    def lost(self, reason: str) -> NotLetIn:
        """The failure to raise when the broker does not let us in, or not stay."""
        text = f"GX injoignable à {self.where} ({reason}) : est-il allumé, MQTT activé ?"
        if self.config.gxcert is None and self.connack is None:
            text += " Avec le profil Secured, il faut gxtls"
        return NotLetIn(text)

    def connect(self) -> None:
        """One try, to CONNACK; NotLetIn, or Unreachable for a certificate that does not match."""
        start = time.monotonic()
        try:
            bounded(min(CONNECT_TRY, self.deadline - start), self.open)
        except ssl.SSLCertVerificationError:
            raise Unreachable(
                "le certificat du GX n'est pas, ou plus, celui de gxcert : le GX l'a renouvelé, ou"
                " une horloge (ici ou sur le GX) est fausse ; reprenez-le"
                f" ({fetch_certificate(self.where)})"
            ) from None
        except (OSError, ValueError) as error:
            raise self.lost(why(error)) from None
        left = start + CONNECT_TRY - time.monotonic()
        if not self.serve(lambda: self.connack is not None, left):
            raise self.lost("pas de réponse à temps")
        if str(self.connack) in LOGIN_REFUSED:
            # A GX that is starting refuses the right password too: a new try may help.
            raise NotLetIn(
                "le GX refuse la connexion : vérifiez gxpassword dans secret.py, et sur le GX"
                " « MQTT access : On » (pas « Paired devices only »)"
            )
        if self.connack != "Success":
            raise self.lost("connexion refusée")

    def open(self) -> None:
        """The TCP and TLS part of connect; OSError or ValueError."""
        if self.config.gxpassword:
            # Any name does, but an empty one up to Venus 3.31.
            self.client.username_pw_set("tempo_ess", self.config.gxpassword)
        if self.config.gxcert:
            self.client.tls_set_context(pinned_context(self.config.gxcert))
        self.client.connect_timeout = CONNECT_TRY
        self.client.connect(str(self.config.gx), self.config.gxport, keepalive=15)

    def serve(self, done: Callable[[], bool], seconds: float) -> bool:
        """Serve the connection until done() or for so many seconds; NotLetIn when it is lost."""
        end = min(self.deadline, time.monotonic() + seconds)
        while not done():
            left = end - time.monotonic()
            if left <= 0:
                return False
            if self.client.loop(left) != mqtt.MQTT_ERR_SUCCESS and not done():
                raise self.lost("connexion coupée")
        return True

    def publish(self, kind: str, setting: Setting, payload: str = "") -> None:
        """R/ or W/: QoS 0 and not retained, since FlashMQ runs any other W/ a second time later."""
        topic = f"{kind}/{self.ledger.serial}/{setting.path}"
        log.debug("MQTT -> %s %s", topic, payload)
        if self.client.publish(topic, payload, qos=0, retain=False).rc:
            raise self.lost("connexion coupée")

    def subscribe(self) -> None:
        """Listen to the run's own settings, and to the serials that are announced."""
        paths = [setting.path for setting in self.ledger.settings()]
        topics = [f"N/+/{SERIAL_PATH}", *(f"N/{self.ledger.serial}/{path}" for path in paths)]
        self.client.subscribe([(topic, 0) for topic in topics])

    def ask(self, until: Collection[Setting], seconds: float) -> None:
        """R/ for what is missing, again each second, until nothing is missing of these settings."""
        end = time.monotonic() + seconds
        while self.ledger.missing(until) and time.monotonic() < min(end, self.deadline):
            for setting in self.ledger.missing(self.ledger.settings()):
                self.publish("R", setting)
            left = end - time.monotonic()
            self.serve(lambda: not self.ledger.missing(until), min(ASK_AGAIN, left))

    def read(self) -> None:
        """Ask for the settings: 5 s, or 60 s in all when a GX is there or may be on its way up."""
        ledger = self.ledger
        ledger.start_reading()
        self.subscribe()
        self.ask(ledger.target, ANSWER)
        if ledger.may_still_answer():
            self.ask(ledger.target, STARTING - ANSWER)
        if ledger.values:  # else nobody_answers says why
            ledger.mute.update(ledger.missing(ledger.target))
            self.ask(ledger.read_only, READ_ONLY)
            ledger.mute.update(ledger.missing(ledger.read_only))
        ledger.taken_back = False

    def write(self, settings: Target) -> None:
        """W/ for these settings."""
        for setting, value in settings.items():
            self.ledger.write(setting)
            self.publish("W", setting, json.dumps({"value": value}, separators=(",", ":")))

    def apply(self) -> None:
        """Write what differs, ask for 5 s until the GX shows it; once more for the rest."""
        for _ in range(2):
            self.write(self.ledger.changes())
            self.ask(self.ledger.target, ANSWER)

    def work(self, dry_run: bool, blindly: bool) -> None:
        """Read, compare, write, confirm; blindly: write, and no more.

        From Read again when the settings service went away meanwhile. Unconfirmed when nobody
        answers, or somebody else.
        """
        if blindly and not dry_run:
            self.write(self.ledger.target)
            return
        self.read()
        if not self.ledger.values:
            self.nobody_answers(dry_run)
        elif not dry_run:
            self.apply()
            if self.ledger.taken_back and time.monotonic() < self.deadline:
                self.work(dry_run, blindly)

    def nobody_answers(self, dry_run: bool) -> None:
        """A GX that is not up, another GX, or a test broker, which gets the target once."""
        ledger = self.ledger
        if ledger.may_still_answer():
            raise Unconfirmed("le GX est là mais ses réglages ne répondent pas : redémarre-t-il ?")
        if ledger.serials:
            seen = ", ".join(shown(serial) for serial in sorted(ledger.serials))
            raise Unconfirmed(
                f"gxsn = {ledger.serial} n'est pas le numéro de ce GX, qui annonce {seen} :"
                " corrigez secret.py"
            )
        if dry_run:
            log.info("aucun GX sur ce broker (broker de test ?)")
            return
        self.write(ledger.target)
        raise Unconfirmed(
            "aucun GX ne répond : c'est un broker de test (alors --no-confirm),"
            f" ou un GX dont gxsn n'est pas {ledger.serial} (--check nomme le bon)"
        )


def given_up(ledger: Ledger, reason: str) -> Failure:
    """The failure of a run whose connection is lost for good."""
    return Unconfirmed(reason) if ledger.written else Unreachable(reason)


def set_gx(config: Config, ledger: Ledger, dry_run: bool, blindly: bool) -> None:
    """The GX's part of a run, in as many tries as its time allows.

    Unreachable when nothing was published, Unconfirmed when something was and is not proven; else
    the ledger says what was read and written.
    """
    start = time.monotonic()
    deadline = start + GX_CONNECT
    while True:
        try:
            with Link(config, ledger, deadline) as link:
                link.connect()
                deadline = start + GX_WORK  # once let in, the whole time counts
                link.deadline = deadline
                link.work(dry_run, blindly)
                return
        except Unreachable as failure:
            raise given_up(ledger, str(failure)) from None
        except NotLetIn as lost:
            ledger.troubled = True
            reason = str(lost)
        if time.monotonic() + CONNECT_PAUSE >= deadline:
            raise given_up(ledger, reason)
        log.info("%s", sentences(reason, f"Nouvel essai dans {CONNECT_PAUSE:g} s"))
        time.sleep(CONNECT_PAUSE)


# ---- Notification --------------------------------------------------------------------------------


NORMAL, HIGH = 0, 1  # Prowl's priorities


def prowl(key: str, call: Callable[[pyprowl.Prowl], object]) -> str | None:
    """Call Prowl, bounded; None when it agrees, else why not.

    Never in its own words, which can hold the key. pyprowl raises bare Exception and KeyError.
    """
    log.debug("HTTP api.prowlapp.com")
    try:
        bounded(PROWL, lambda: call(pyprowl.Prowl(key, "tempo_ess")))
    except Exception as error:
        status = re.match(r"\W?(\d{3})\b", str(error))
        if status is None:
            return f"Prowl : {why(error)}"
        if status[1] == "401":
            return "Prowl refuse la clé (401) : vérifiez prowlkey"
        return f"Prowl : réponse {status[1]}"
    return None


def push(config: Config, text: str, priority: int) -> None:
    """Send a notification if there is a key; a failure is a warning, never the verdict."""
    if config.prowlkey is None:
        return
    trouble = prowl(config.prowlkey, lambda it: it.notify("EDF TEMPO", text, priority))
    if trouble:
        log.warning("notification non envoyée (%s) : %s", trouble, text)
    else:
        log.info("notification : %s", text)


# ---- --check -------------------------------------------------------------------------------------


class Table:
    """The lines of --check, said as they are found; its code is a run's for the first error."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.code = Exit.OK

    def line(self, level: int, word: str, subject: str, text: str) -> None:
        """A line of the table; with quiet, only what is not OK, on stderr."""
        if self.quiet:
            log.log(level, "%s : %s", subject, text)
        else:
            log.info("%-9s  %-20s  %s", word, subject, text)

    def ok(self, subject: str, text: str) -> None:
        """All is well there."""
        self.line(logging.INFO, "OK", subject, text)

    def attention(self, subject: str, text: str) -> None:
        """The owner should look at it; a run would not fail."""
        self.line(logging.WARNING, "attention", subject, text)

    def erreur(self, subject: str, text: str, code: Exit) -> None:
        """A run would end with this code."""
        self.line(logging.ERROR, "erreur", subject, text)
        if self.code is Exit.OK:
            self.code = code


ESS_MENU = "Settings > System setup > ESS"
MENU = f"{ESS_MENU} > Scheduled charge levels > Schedule"
CLOCK_MENU = "Settings > General > Date & Time > Time zone"
START = Setting(SCHEDULES + "0/Start", "Schedule 1 Start", " h", 3600, ((79200, "22:00"),))
DURATION = Setting(SCHEDULES + "0/Duration", "Schedule 1 Duration", " h", 3600)
DISCHARGES = ((0, "PV"), (1, "PV & Battery"))
DISCHARGE = Setting(SCHEDULES + "0/AllowDischarge", "Schedule 1 Discharge", names=DISCHARGES)
DYNAMIC = ((0, "Off"),)
DYNAMIC_ESS = Setting("settings/0/Settings/DynamicEss/Mode", "Dynamic ESS", names=DYNAMIC)
TIME_ZONE = Setting("settings/0/Settings/System/TimeZone", "fuseau du GX", is_text=True)
OTHER_DAYS = [
    Setting(f"{SCHEDULES}{n}/Day", f"Schedule {n + 1} Day", names=DAYS) for n in range(1, 5)
]
NEEDED = (SOC, MIN_SOC, BATTERY_LIFE, *RELAYS.values())  # without which a run ends with exit 5
Check = tuple[Collection[Value] | None, str]  # right values (None: any), what to do about another
CHECKS: dict[Setting, Check] = {
    HUB4_MODE: ((1, 2), f"le script ne règle pas BatteryLife dans ce mode : {ESS_MENU} > Mode"),
    BATTERY_LIFE: (
        (*STATES_ON, *STATES_OFF),
        f"bloque la charge programmée : {ESS_MENU} > Mode",
    ),
    MIN_SOC: (None, ""),
    SOC: (None, ""),
    DAY: ((EVERY_DAY,), f"la recharge n'a pas lieu tous les soirs : {MENU} 1 > Day, Every day"),
    START: ((79200,), f"il faut 22:00 : {MENU} 1 > Start time"),
    DURATION: ((28800,), f"il faut 8 h : {MENU} 1 > Duration"),
    DISCHARGE: ((0,), f"il faut PV : {MENU} 1 > Self-consumption above limit"),
    DYNAMIC_ESS: ((0,), f"bloque la charge programmée : {ESS_MENU} > Dynamic ESS, Off"),
    TIME_ZONE: (None, f"décale la charge : {CLOCK_MENU}, Europe/Paris"),  # see same_clock
    **dict.fromkeys(
        OTHER_DAYS, (INACTIVE_DAYS, f"actif, il peut charger en heures pleines : {MENU}s")
    ),
}


def same_clock(zone: str, now: datetime) -> bool:
    """Whether this time zone, as a GX names it, has the clock of Paris, in winter and in summer."""
    try:
        other = ZoneInfo(zone.lstrip("/"))
    except (LookupError, OSError, ValueError):
        return False
    moments = (now, now + timedelta(days=182))
    return all(one.astimezone(other).utcoffset() == one.utcoffset() for one in moments)


def check_clock(table: Table, now: datetime) -> None:
    """The machine's clock, which cron follows."""
    here = now.astimezone()
    told = f"{here:%H:%M} (UTC{here:%z})"
    if here.utcoffset() == now.utcoffset():
        table.ok("heure de la machine", told)
    else:
        advice = "cron la suit : sudo timedatectl set-timezone Europe/Paris"
        table.attention("heure de la machine", f"{told}, {now:%H:%M} à Paris ; {advice}")


def check_ecodevice(table: Table, config: Config, now: datetime) -> bool:
    """The EcoDevice's line; whether today's colour is settled, be it as an error."""
    try:
        tempo = ask_ecodevice(config)
    except (NoAnswer, NoColour) as failure:
        if isinstance(failure, NoAnswer) and config.use_api:
            table.attention("EcoDevice", f"{failure} ; le web le remplace")
            return False
        table.erreur("EcoDevice", str(failure), failure.code)
        return True
    text = f"PTEC {tempo.aujourdhui} en {tempo.periode}, DEMAIN {tempo.demain or 'non annoncé'}"
    if tempo.demain is None and not 6 <= now.hour < 20:
        table.attention("EcoDevice", text)
    else:
        table.ok("EcoDevice", text)
    return True


def check_source(table: Table, source: str, now: datetime) -> bool:
    """A web source's line; whether it gives today's colour."""
    try:
        found = ask_web(source, known_days(now))
    except NoAnswer as failure:
        table.attention(source, f"{failure} : rien à faire si une autre source répond")
        return False
    labels = {"aujourdhui": "aujourd'hui", "demain": "demain"}
    table.ok(source, ", ".join(f"{labels[day]} {couleur}" for day, couleur in found.items()))
    return "aujourdhui" in found


def check_colours(table: Table, config: Config, now: datetime) -> None:
    """The sources' lines, and an error when none gives today's colour."""
    settled = []
    if config.use_eco and config.ecodevice:
        settled.append(check_ecodevice(table, config, now))
    if config.use_api:
        settled += [check_source(table, source, now) for source in WEB_SOURCES]
    if not any(settled):
        trouble = "aucune source ne la donne : rien ne serait réglé"
        table.erreur("couleur du jour", trouble, Exit.COLOUR)


def check_serial(table: Table, serial: str, announced: Collection[str]) -> str:
    """The serial's line; the serial to go on with."""
    if serial in announced:
        table.ok("gxsn", f"{serial}, annoncé par ce GX")
        return serial
    if not announced:
        table.attention("gxsn", "ce broker n'annonce aucun GX : broker de test ?")
        return serial
    right = min(announced)
    trouble = f"ce GX annonce {shown(right)} : à mettre dans secret.py"
    table.erreur("gxsn", trouble, Exit.UNCONFIRMED)
    return right


def check_setting(
    table: Table, setting: Setting, wanted: Check, value: Value | None, now: datetime
) -> None:
    """The line of one setting of the GX."""
    if value is None:
        if setting in NEEDED:
            table.erreur(setting.label, "non lisible", Exit.UNCONFIRMED)
        else:
            table.attention(setting.label, "non lisible")
        return
    right, advice = wanted
    is_right = right is None or value in right
    if setting is TIME_ZONE:
        is_right = same_clock(str(value), now)
    if is_right:
        table.ok(setting.label, setting.text(value))
    else:
        table.attention(setting.label, f"{setting.text(value)}, {advice}")


def check_gx(table: Table, config: Config, now: datetime) -> None:
    """The GX's lines, read under the serial that it announces when gxsn is missing or another."""
    checks = dict(CHECKS)
    if config.relay:
        checks[RELAYS[config.relay.number]] = (None, "")
        checks[RELAY_FUNCTIONS[config.relay.number]] = ((MANUAL,), f"il faut {RELAY_MENU}")
    ledger = Ledger(config.gxsn or "", {}, list(checks))
    try:
        with Link(config, ledger, time.monotonic() + GX_CONNECT) as link:
            link.connect()
            table.ok("GX", f"joint à {link.where}")
            link.subscribe()  # to the serials; below, to the settings of the right one
            link.serve(lambda: bool(ledger.serials), ANSWER)
            ledger.serial = check_serial(table, ledger.serial, ledger.serials)
            link.subscribe()
            link.ask(ledger.read_only, ANSWER)
    except (Unreachable, NotLetIn) as failure:
        table.erreur("GX", str(failure), Exit.GX)
        return
    if not ledger.values:
        trouble = "aucun ne répond : broker de test, ou GX qui redémarre ?"
        table.erreur("réglages du GX", trouble, Exit.UNCONFIRMED)
        return
    for setting, wanted in checks.items():
        check_setting(table, setting, wanted, ledger.values.get(setting), now)


def check(table: Table, path: Path, now: datetime) -> None:
    """Every line of --check, past every error."""
    check_clock(table, now)
    try:
        config, secret = examine(path)
    except WrongUsage as failure:
        table.erreur("secret.py", str(failure), failure.code)
        return
    for problem in secret.problems.values():
        table.erreur("secret.py", problem, Exit.USAGE)
    hints = secret.hints()
    if path.stat().st_mode & stat.S_IROTH:
        hints.append(f"lisible par tous : chmod 600 {path}")
    for hint in hints:
        table.attention("secret.py", hint)
    if not secret.problems and not hints:
        table.ok("secret.py", str(path))
    check_colours(table, config, now)
    if config.gx and not secret.problems.keys() & {"gxtls", "gxcert", "gxport", "gxpassword"}:
        check_gx(table, config, now)
    if config.prowlkey:
        trouble = prowl(config.prowlkey, lambda it: it.verify_key())
        if trouble:
            table.attention("Prowl", trouble)
        else:
            table.ok("Prowl", "clé acceptée")


# ---- Program -------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """argparse, with its errors in French and as a Failure."""

    def error(self, message: str) -> NoReturn:
        """Say which option is wrong, without argparse's English."""
        named = re.findall(r"--?[\w-]+", message) or ["ligne de commande"]
        trouble = f"{named[0]} : valeur inconnue"
        if "not allowed with" in message:
            trouble = f"{' et '.join(named)} ne vont pas ensemble"
        elif "expected one argument" in message:
            trouble = f"{named[0]} : il manque la valeur"
        elif "ignored explicit argument" in message:
            trouble = f"{named[0]} ne prend pas de valeur"
        raise WrongUsage(f"{trouble} (voir --help)")


def couleur(text: str) -> Couleur:
    """A colour in any case; ValueError."""
    return Couleur(text.upper())


def periode(text: str) -> Periode:
    """A period in any case; ValueError."""
    return Periode(text.upper())


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; WrongUsage when it is wrong."""
    parser = Parser(
        prog="tempo_ess.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument
    mode = parser.add_mutually_exclusive_group()
    volume = parser.add_mutually_exclusive_group()
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
    volume.add_argument("--quiet", action="store_true", help="ne dit que ce qui ne va pas")
    volume.add_argument("--verbose", action="store_true", help="dit aussi chaque message échangé")
    version = f"tempo_ess {__version__}"
    add("--version", action="version", version=version, help="affiche la version")
    add("-h", "--help", action="help", help="affiche cette aide")
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        raise WrongUsage(f"{unknown[0]} : option inconnue (voir --help)")
    return options


def relay_trouble(config: Config, ledger: Ledger) -> str | None:
    """What keeps a write to the relay from holding."""
    if config.relay is None:
        return None
    setting = RELAY_FUNCTIONS[config.relay.number]
    function = ledger.values.get(setting, MANUAL)
    if function == MANUAL:
        return None
    return f"{setting.label} : {setting.text(function)}, l'écriture ne tient pas ; {RELAY_MENU}"


def verdict(ledger: Ledger, allowed: Fate | None) -> str | None:
    """What keeps the run from exit 0 among what became of the settings; None when nothing does."""
    troubles = []
    for setting, fate in ledger.fates().items():
        if fate is Fate.MUTE:
            troubles.append(f"le GX ne répond pas pour {setting.label}")
        elif fate not in (Fate.KEPT, Fate.CONFIRMED, Fate.OWNERS, allowed):
            troubles.append(f"le GX ne confirme pas {setting.label}")
    return " ; ".join(troubles) or None


def remarks(config: Config, ledger: Ledger) -> list[str]:
    """What the owner should know beside the settings; said, and told in the run's push too."""
    told = []
    if float(ledger.values.get(DAY, 0)) < 0:
        told.append("Schedule 1 inactif : pas de recharge programmée")
        log.info(told[0])
    relay = relay_trouble(config, ledger)
    if relay:
        told.append(relay)
        log.warning("%s", relay)
    return told


def report(ledger: Ledger, today: Profile | None) -> None:
    """Say what became of each setting; what is warned of here does not go into a push.

    today: the profile of today's colour, unless it was imposed.
    """
    for setting in ledger.target:
        log.info(ledger.line(setting))
    choice = owners_choice(ledger.heard)
    if BATTERY_LIFE in ledger.target and choice:
        log.warning("%s : BatteryLife est %s", choice, Fate.OWNERS)
    if today:
        written = {one: value for one, value in ledger.target.items() if one in ledger.written}
        for told in somebody_else(written, today, ledger.before):
            log.warning("%s", told)


def run(options: argparse.Namespace, config: Config, now: datetime) -> tuple[str | None, int]:
    """The evening in one straight line; text and priority of its push, or Failure."""
    imposed = {"aujourdhui": options.today, "demain": options.tomorrow, "periode": options.period}
    try:
        evening = read_evening(imposed, config, now)
    except NoColour as unknown:
        raise NoColour(sentences(str(unknown), NOTHING_WRITTEN)) from None
    tell_evening(evening, now)
    tempo = evening.tempo()
    target = target_settings(tempo, config, now)
    read_only = [DAY, HUB4_MODE] if tempo.periode is Periode.HC else [DAY]
    if config.relay:
        read_only.append(RELAY_FUNCTIONS[config.relay.number])
    ledger = Ledger(str(config.gxsn), target, read_only)
    failure: Failure | None = None
    try:
        set_gx(config, ledger, options.dry_run, options.no_confirm)
    except Failure as error:
        failure = error
    report(ledger, None if options.today else config.profiles[tempo.aujourdhui])
    told = remarks(config, ledger)
    allowed = None
    if options.dry_run:
        allowed = Fate.PENDING
    elif options.no_confirm:
        allowed = Fate.PUBLISHED
    trouble = verdict(ledger, allowed)
    if failure is None and trouble:
        failure = Unconfirmed(trouble)
    if failure:
        eve = f"demain {tempo.demain} : " if tempo.demain not in (None, tempo.aujourdhui) else ""
        raise type(failure)(sentences(f"{eve}{failure}", ledger.left_with(), *told))
    notice = change_notice(tempo, config, ledger.fates())
    if notice and told:
        notice = sentences(notice, *told)
    return notice, HIGH if tempo.demain is Couleur.ROUGE else NORMAL


def run_and_tell(options: argparse.Namespace, config: Config, now: datetime) -> None:
    """The run and its push, whatever its end."""
    if options.dry_run or options.no_notify:
        config = config._replace(prowlkey=None)
    try:
        text, priority = run(options, config, now)
    except Failure as failure:
        push(config, f"Échec (code {failure.code}) : {failure}", HIGH)
        raise
    except Exception:
        trouble = "bogue du script, le GX est peut-être à moitié réglé"
        push(config, f"Échec (code {Exit.BUG}) : {trouble}", HIGH)
        raise
    if text:
        push(config, text, priority)


def open_output(quiet: bool, verbose: bool) -> None:
    """Information to stdout, the rest to stderr; what cannot be written never stops a run."""
    logging.raiseExceptions = False
    logging.addLevelName(logging.WARNING, "attention")
    logging.addLevelName(logging.ERROR, "erreur")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    out = logging.StreamHandler(sys.stdout)
    out.addFilter(lambda record: not quiet and record.levelno < logging.WARNING)
    err = logging.StreamHandler(sys.stderr)
    err.setLevel(logging.WARNING)
    err.setFormatter(logging.Formatter("%(levelname)s : %(message)s"))
    log.handlers = [out, err]
    log.setLevel(logging.DEBUG if verbose else logging.INFO)


def main(argv: Sequence[str] | None = None, clock: Callable[[], datetime] = paris_now) -> int:
    """Run, and translate its end into an exit code; clock gives a Paris time."""
    open_output(False, False)
    try:
        options = parse_options(argv)
        open_output(options.quiet, options.verbose)
        if options.check:
            table = Table(options.quiet)
            check(table, options.config, clock())
            return table.code
        run_and_tell(options, load_config(options.config), clock())
        return Exit.OK
    except Failure as failure:
        log.error("%s", failure)
        return failure.code
    except KeyboardInterrupt:
        log.error("interrompu : relancez le script, il reprendra là où il s'est arrêté")
        return 130
    except Exception:
        log.exception("bogue du script, merci de le signaler avec ce qui suit")
        return Exit.BUG


if __name__ == "__main__":
    raise SystemExit(main())
