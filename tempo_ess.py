#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["paho-mqtt>=2.1", "requests", "pyprowl"]
# ///
"""Règle chaque soir un ESS Victron d'après la couleur TEMPO du lendemain.

cron lance ce script à 20:05 et à 22:02. Il lit les couleurs (EcoDevice, sinon le web), en déduit
les réglages de la batterie, n'écrit sur le GX que ce qui diffère, relit pour le prouver et prévient
par Prowl. Le GX est sa seule mémoire : une exécution manquée est rattrapée par la suivante de la
même heure, et une seconde exécution de suite n'écrit rien.

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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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


# ---- Exit codes and expected failures ------------------------------------------------------------


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
    """Today's colour is not to be had: ends the run, unless it is a NoAnswer."""

    code = Exit.COLOUR


class NoAnswer(NoColour):
    """A source of colours is down or does not know: the next one is asked."""


class TryAgain(NoAnswer):
    """A source of colours is down, and a new try may help."""


class Unreachable(Failure):
    """The GX is unreachable, or refused the login."""

    code = Exit.GX


class Unconfirmed(Failure):
    """The GX does not hold, or does not show, what it should."""

    code = Exit.UNCONFIRMED


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
    """The civil dates that name today's TEMPO day and, once it can be known, the next one.

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

# What a person chooses behind a raw BatteryLife/State: the GX itself moves 1 to 2..8 and 10 to 11
# or 12; 9 is the owner's own choice [dbus-systemcalc-py].
ON_STATES, KEEP_CHARGED, OFF_STATES = range(1, 9), 9, range(10, 13)
ESS_MODES = (
    *[(state, "on") for state in ON_STATES],
    (KEEP_CHARGED, "Keep batteries charged"),
    *[(state, "off") for state in OFF_STATES],
)
STATE_ON, STATE_OFF = 1, 10  # the only States written
EXTERNAL_CONTROL = 3  # a Hub4Mode
MANUAL = 2  # a relay's function: the only one with which a write holds
DISABLED = -1  # a relay's function: the relay then has no State


def number(value: float) -> str:
    """Show a number as it is."""
    return f"{value:g}"


def percent(value: float) -> str:
    """Show a state of charge."""
    return f"{value:g} %"


def hours(seconds: float) -> str:
    """Show a duration."""
    return f"{seconds / 3600:g} h"


def time_of_day(seconds: float) -> str:
    """Show seconds after midnight."""
    return f"{seconds // 3600:02.0f}:{seconds % 3600 // 60:02.0f}"


class Setting(NamedTuple):
    """A value on the GX: its path below N/<sn>/, R/<sn>/ and W/<sn>/, its label, its look."""

    path: str
    label: str
    show: Callable[[Any], str] = number
    names: Sequence[tuple[float, str]] = ()
    is_text: bool = False

    def text(self, value: Value | None) -> str:
        """The value for a person; ? for one that is not known."""
        if value is None:
            return "?"
        names: dict[Any, str] = dict(self.names)
        return names.get(value) or self.show(value)


CGWACS = "settings/0/Settings/CGwacs/"


def schedule(number_from_1: int, item: str) -> str:
    """The path of an item of one of the five schedules, which the GX counts from 0."""
    return f"{CGWACS}BatteryLife/Schedule/Charge/{number_from_1 - 1}/{item}"


INACTIVE_DAYS = range(-11, 0)  # of a schedule's Day: the day is kept, negated
DAY_NAMES = (
    (7, "tous les jours"),
    *[(day, "inactif") for day in INACTIVE_DAYS],
)
SOC = Setting(schedule(1, "Soc"), "Schedule 1 SoC", percent)
MIN_SOC = Setting(CGWACS + "BatteryLife/MinimumSocLimit", "MinSoc", percent)
BATTERY_LIFE = Setting(CGWACS + "BatteryLife/State", "BatteryLife", names=ESS_MODES)
DAY = Setting(schedule(1, "Day"), "Schedule 1 Day", names=DAY_NAMES)
HUB4_MODE = Setting(
    CGWACS + "Hub4Mode",
    "Mode ESS (Hub4Mode)",
    names=((1, "ESS"), (2, "ESS"), (EXTERNAL_CONTROL, "contrôle externe")),
)
RELAY_NAMES = ((0, "ouvert"), (1, "fermé"))
RELAYS = {
    1: Setting("system/0/Relay/0/State", "Relais 1", names=RELAY_NAMES),
    2: Setting("system/0/Relay/1/State", "Relais 2", names=RELAY_NAMES),
}
FUNCTION_NAMES = ((DISABLED, "désactivé"), (0, "alarme"), (MANUAL, "Manual"))
RELAY_FUNCTIONS = {
    1: Setting("settings/0/Settings/Relay/Function", "fonction relais 1", names=FUNCTION_NAMES),
    2: Setting("settings/0/Settings/Relay/1/Function", "fonction relais 2", names=FUNCTION_NAMES),
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
    ecologin: tuple[str, str] | None
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
ADDRESS = 'un nom ou une adresse comme "192.168.1.50", avec des points, sans http://'


def is_text(value: Any) -> bool:
    """One line of text."""
    return isinstance(value, str) and value.isprintable()


def is_address(value: Any) -> bool:
    """A host name or address, perhaps with a port."""
    return is_text(value) and re.search(r"[\s,/]", value) is None


def is_host(value: Any) -> bool:
    """A host name or address without a port; an IPv6 address has several colons."""
    return is_address(value) and value.count(":") != 1


def is_serial(value: Any) -> bool:
    """12 hexadecimal digits."""
    return is_text(value) and re.fullmatch("[0-9A-Fa-f]{12}", value) is not None


def is_time(value: Any) -> bool:
    """A time like 06:00."""
    return is_text(value) and re.fullmatch("([01][0-9]|2[0-3]):[0-5][0-9]", value) is not None


def are_couleurs(value: Any) -> bool:
    """A list of TEMPO colours."""
    return isinstance(value, list | tuple) and all(one in list(Couleur) for one in value)


class Secret:
    """The variables of secret.py, taken one rule at a time; what is wrong is kept to be told."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names = names
        self.defaults: dict[str, Any] = {}  # every name that a rule asked for
        self.problems: list[str] = []

    def take(self, name: str, default: Any, right: Callable[[Any], bool], wanted: str) -> Any:
        """The value of this name; the default when it is missing, empty or wrong."""
        self.defaults[name] = default
        value = self.names.get(name, default)
        if isinstance(value, str):
            value = value.strip() or default
        if value is default or right(value):
            return value
        shown = repr(value)[:40]
        if name in HIDDEN:
            shown = "(masqué)"
        self.problems.append(f"{name} = {shown} : il faut {wanted}")
        return default

    def need(
        self, name: str, right: Callable[[Any], bool], wanted: str, otherwise: str = ""
    ) -> Any:
        """The same for a name that has no default; otherwise says how to do without it."""
        if str(self.names.get(name) or "").strip() == "":
            self.defaults[name] = None
            self.problems.append(f"{name} manque : il faut {wanted}{otherwise}")
            return None
        return self.take(name, None, right, wanted)

    def text(self, name: str) -> Any:
        """A text, or None."""
        return self.take(name, None, is_text, "un texte entre guillemets droits, sur une ligne")

    def flag(self, name: str, default: bool) -> bool:
        """A choice."""
        return bool(
            self.take(name, default, lambda value: isinstance(value, bool), "True ou False")
        )

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
        if profile.min_soc > profile.charge:
            told = f"{min_soc} = {profile.min_soc}, {charge} = {profile.charge}"
            self.problems.append(f"{told} : {min_soc} ne doit pas dépasser {charge}")
        return profile

    def relay(self) -> Relay | None:
        """The relay, if one is to be driven."""
        number = self.number("relais", None, 1, 2)
        default = ["BLANC", "ROUGE"]
        wanted = 'une liste comme ["BLANC", "ROUGE"]'
        couleurs = self.take("relais_couleurs", default, are_couleurs, wanted)
        debut = self.take("relais_debut", "06:00", is_time, 'une heure comme "06:00"')
        fin = self.take("relais_fin", "22:00", is_time, 'une heure comme "22:00"')
        if debut >= fin:
            told = f"relais_debut = {debut}, relais_fin = {fin}"
            self.problems.append(f"{told} : il faut le début avant la fin")
        if number is None:
            return None
        return Relay(number, couleurs, debut, fin)

    def certificate(self, folder: Path, gx: str | None, port: int) -> Path | None:
        """The file of the GX's own certificate, beside secret.py; None when it is of no use."""
        name = self.text("gxcert")
        if not self.flag("gxtls", False):
            return None
        trouble = "gxcert manque"
        if name is None and self.names.get("gxcert"):
            return None  # not a text: told already
        if name:
            cert = folder / str(name)
            try:
                pinned_context(cert)
                return cert
            except (OSError, ValueError):
                trouble = f"gxcert = {name} : pas un certificat lisible"
        self.problems.append(f"{trouble} ; il s'obtient par {fetch_certificate(gx, port)}")
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


def fetch_certificate(gx: str | None, port: int) -> str:
    """The command that fetches a GX's certificate."""
    where = f"{gx or 'ADRESSE_DU_GX'}:{port}"
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
    use_eco = secret.flag("use_eco", True)
    use_api = secret.flag("use_api", True)
    if not use_eco and not use_api:
        secret.problems.append("use_eco = False, use_api = False : il faut au moins une source")
    if use_eco:
        otherwise = " ; sans EcoDevice : use_eco = False"
        ecodevice = secret.need("ecodevice", is_address, ADDRESS, otherwise)
    else:
        ecodevice = secret.text("ecodevice")
    user, password = secret.text("ecouser"), secret.text("ecopassword")
    gx = secret.need("gx", is_host, ADDRESS + " ni port (il se met dans gxport)")
    serial = "12 chiffres hexadécimaux, le VRM Portal ID (--check le nomme)"
    gxsn = secret.need("gxsn", is_serial, serial)
    gxport = secret.number("gxport", None, 1, 65535)
    if gxport is None:
        gxport = 8883 if secret.names.get("gxtls") is True else 1883
    return Config(
        ecodevice=ecodevice,
        ecologin=(user, password) if user and password else None,
        ecoinput=secret.number("ecoinput", 1, 1, 2),
        use_eco=use_eco,
        use_api=use_api,
        gx=gx,
        gxsn=gxsn and gxsn.lower(),
        gxport=gxport,
        gxcert=secret.certificate(folder, gx, gxport),
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
        if not stat.S_ISREG(status.st_mode):
            raise WrongUsage(f"{path} n'est pas un fichier")
        source = path.read_bytes()
    except FileNotFoundError:
        advice = "copiez secret.py.example sous ce nom et remplissez-le"
        raise WrongUsage(f"{path} est absent : {advice}") from None
    except OSError:
        raise WrongUsage(f"{path} est illisible pour cet utilisateur") from None
    if status.st_mode & stat.S_IWOTH:
        raise WrongUsage(f"{path} est modifiable par tous, et cron l'exécute : chmod 600 {path}")
    if status.st_uid not in (os.geteuid(), 0):
        owner, user = user_name(status.st_uid), user_name(os.geteuid())
        advice = f"lancez le script sous {owner}, sans sudo"
        raise WrongUsage(f"{path} est à {owner}, mais le script tourne sous {user} : {advice}")
    return source


def run_secret(path: Path) -> dict[str, Any]:
    """The variables of secret.py; WrongUsage when it is absent, unsafe or wrong Python.

    An error is told by its place alone: its text, and Python's own warnings, can show a key.
    """
    source = read_source(path)
    names: dict[str, Any] = {"__name__": "secret", "__file__": str(path)}
    advice = "texte sans guillemets droits, nombre avec %, ou espace devant un nom ?"
    with warnings.catch_warnings(action="ignore"):
        try:
            code = compile(source, str(path), "exec")
        except SyntaxError as error:
            place = str(path)
            if error.lineno:
                place = f"{path}, ligne {error.lineno}"
            raise WrongUsage(f"{place} : mal écrit ({advice})") from None
        except ValueError:
            raise WrongUsage(f"{path} n'est pas du texte") from None
        try:
            exec(code, names)
        except (Exception, SystemExit) as error:
            frame = error.__traceback__ and error.__traceback__.tb_next
            line = frame.tb_lineno if frame else 0
            if isinstance(error, NameError):
                trouble = "un texte sans guillemets droits, ou un choix autre que True ou False"
            else:
                trouble = f"erreur Python {type(error).__name__}"
            raise WrongUsage(f"{path}, ligne {line} : {trouble}") from None
    return names


def examine(path: Path) -> tuple[Config, list[str], list[str]]:
    """secret.py: what is usable of it, every problem, and hints about names that look mistyped."""
    secret = Secret(run_secret(path))
    config = read_config(secret, path.parent)
    return config, secret.problems, secret.hints()


def load_config(path: Path) -> Config:
    """The configuration; WrongUsage with every problem at once, before anything is contacted."""
    config, problems, hints = examine(path)
    for hint in hints:
        log.warning("%s : %s", path, hint)
    if problems:
        heading = f"{path} est à corriger, rien n'a été contacté :"
        raise WrongUsage("\n  ".join([heading, *problems]))
    return config


# ---- Decision: no clock, no log, no network ------------------------------------------------------


def profile_settings(profile: Profile) -> dict[Setting, int]:
    """What the GX holds on a day with this profile."""
    state = STATE_ON if profile.battery_life else STATE_OFF
    return {SOC: profile.charge, MIN_SOC: profile.min_soc, BATTERY_LIFE: state}


def target_settings(tempo: Tempo, config: Config, now: datetime) -> dict[Setting, int]:
    """What the GX is to hold after a run at this Paris time.

    HP: the charge alone, since raising MinSoc or turning BatteryLife on can start a recharge at
    peak price. HC: all three; while demain is unknown, the charge stays as the 20:05 run left it.
    """
    target = profile_settings(config.profiles[tempo.demain or tempo.aujourdhui])
    if tempo.periode is Periode.HP:
        target = {SOC: target[SOC]}
    elif tempo.demain is None:
        del target[SOC]
    if config.relay:
        in_time = config.relay.debut <= now.strftime("%H:%M") < config.relay.fin
        closed = in_time and tempo.aujourdhui in config.relay.couleurs
        target[RELAYS[config.relay.number]] = int(closed)
    return target


def read_only_settings(tempo: Tempo, config: Config) -> list[Setting]:
    """What a run reads along, to know what its writes are worth."""
    settings = [DAY]
    if tempo.periode is Periode.HC:
        settings.append(HUB4_MODE)
    if config.relay:
        settings.append(RELAY_FUNCTIONS[config.relay.number])
    return settings


def somebody_else(
    target: Mapping[Setting, int], today: Profile, before: Mapping[Setting, Value]
) -> list[str]:
    """Settings that held neither today's value nor the target before this run wrote them."""
    told = []
    for setting, expected in profile_settings(today).items():
        if setting not in target or setting not in before:
            continue
        held = before[setting]
        if agrees(setting, held, expected) or agrees(setting, held, target[setting]):
            continue
        if setting is BATTERY_LIFE and owners_choice(before):
            continue
        values = f"{setting.text(held)} au lieu de {setting.text(expected)}"
        told.append(
            f"{setting.label} était à {values} : changé à la main, par un autre programme"
            " (evcc, VRM), ou une soirée manquée ?"
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
    due, in HC only when the run changed something, since 20:05 has told the rest.
    """
    if tempo.demain is None or tempo.demain is tempo.aujourdhui:
        return None
    plan = profile_settings(config.profiles[tempo.demain])
    ours = {setting: fate for setting, fate in fates.items() if setting in plan}
    unsure = Fate.PUBLISHED in ours.values()
    charge = f"charge {SOC.text(plan[SOC])}"
    min_soc = f"MinSoc {MIN_SOC.text(plan[MIN_SOC])}"
    battery_life = f"BatteryLife {BATTERY_LIFE.text(plan[BATTERY_LIFE])}"
    if tempo.periode is Periode.HP:
        sure = Fate.PUBLISHED if unsure else "confirmée"
        return f"Demain {tempo.demain} : {charge} ({sure}) ; à 22 h {min_soc}, {battery_life}"
    if not {Fate.CONFIRMED, Fate.PUBLISHED} & set(ours.values()):
        return None
    told = [min_soc]
    if ours[SOC] is not Fate.KEPT:
        told.insert(0, charge)
    left = ""
    if ours[BATTERY_LIFE] is Fate.OWNERS:
        left = f" ; BatteryLife {Fate.OWNERS}"
    else:
        told.append(battery_life)
    opening = f"Demain {tempo.demain}, prêt"
    sure = "confirmés" if len(told) > 1 else "confirmé"
    if unsure:
        opening, sure = f"Demain {tempo.demain}", Fate.PUBLISHED
    return f"{opening} : {', '.join(told)} ({sure}){left}"


# ---- Waiting and HTTP ----------------------------------------------------------------------------

# Seconds. A whole run: EcoDevice 28, web 3 x 15, GX 150 and 1, Prowl 15: under 5 minutes.
ECODEVICE_TRIES = 3
ECODEVICE_TRY = 8.0
ECODEVICE_PAUSE = 2.0  # polls closer than that make it unstable (tests/FACTS.md, EcoDevice)
WEB_SOURCE = 15.0
PROWL = 15.0
MAX_BODY = 64 * 1024  # bytes taken of an HTTP answer


def sentences(*texts: str) -> str:
    """These texts, each with its full stop before the next begins."""
    ended = [text if text.endswith((".", "?")) else f"{text}." for text in texts]
    return " ".join(ended)


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


def shown(text: object) -> str:
    """Text that came from a peer, fit for a terminal: at most 40 of its characters, escaped."""
    return ascii(str(text)[:40])


def shown_bare(text: object) -> str:
    """The same without quotes."""
    return shown(text).strip("'")


WORDS: list[tuple[type[BaseException], str]] = [  # the first that fits
    (requests.RequestException, "requête impossible"),
    (socket.gaierror, "nom inconnu du réseau"),
    (TimeoutError, "pas de réponse à temps"),
    (ConnectionRefusedError, "connexion refusée"),
    (ConnectionError, "connexion coupée"),
    (ssl.SSLError, "échec TLS"),
    (OSError, "réseau injoignable"),
]


def why(error: BaseException) -> str:
    """French words for a peer's failure, from its first cause.

    Never the exception's own words, which can hold a key or the peer's bytes.
    """
    while cause := error.__cause__ or error.__context__:
        error = cause
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.EHOSTDOWN):
        return "aucun appareil à cette adresse"
    for kind, words in WORDS:
        if isinstance(error, kind):
            return words
    return "réponse illisible"


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
    with session, session.get(url, timeout=timeout, stream=True, allow_redirects=False) as answer:
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
    demain = str(answer.get(f"T{ecoinput}_DEMAIN"))
    if ptec in CONTRATS:
        contract = f"le contrat du compteur est {CONTRATS[ptec]} (PTEC {ptec}), pas TEMPO"
        raise NoColour(f"{contract} : vérifiez l'abonnement, ou ecoinput dans secret.py")
    if ptec not in PTEC:
        raise NoAnswer(f"pas de code TEMPO, PTEC {shown(ptec)} (téléinfo débranchée ?)")
    aujourdhui, periode = PTEC[ptec]
    return Tempo(aujourdhui, DEMAIN.get(demain), periode)


def fetch_ecodevice(config: Config) -> dict[str, Any]:
    """The EcoDevice's answer, in three tries; NoAnswer when there is none."""
    session = requests.Session()
    session.trust_env = False  # a device on the LAN: no proxy and no netrc
    if config.ecologin:
        user, password = config.ecologin
        session.auth = HTTPBasicAuth(user.encode(), password.encode())
    url = f"http://{config.ecodevice}/api/xdevices.json?cmd=10"
    for _ in range(ECODEVICE_TRIES - 1):
        try:
            return fetch(url, time.monotonic() + ECODEVICE_TRY, session)
        except TryAgain:
            time.sleep(ECODEVICE_PAUSE)
    return fetch(url, time.monotonic() + ECODEVICE_TRY, session)


def ask_ecodevice(config: Config) -> Tempo:
    """The colours and the period from the meter; NoAnswer or NoColour."""
    name = f"EcoDevice ({config.ecodevice})"
    try:
        answer = fetch_ecodevice(config)
    except NoAnswer as failure:
        advice = f"ouvrez http://{config.ecodevice} dans un navigateur"
        raise NoAnswer(f"{name} : {failure} ; {advice}") from None
    try:
        return parse_ecodevice(answer, config.ecoinput)
    except NoAnswer as failure:
        raise NoAnswer(f"{name} : {failure}") from None


# Every web source gives colours by civil date, written as in 2026-11-24. Its parser may trip with
# LookupError, TypeError or AttributeError over an answer of another shape.
Calendar = dict[str, Couleur]

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
        if option["option"] == "TEMPO":
            for day in option["calendrier"]:
                if day["statut"] in EDF_CODES:
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
        except (NoAnswer, LookupError, TypeError, AttributeError):
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
    """The colours of those of these days (see known_days) that the source knows; NoAnswer."""
    try:
        calendar = WEB_SOURCES[source](list(days.values()), time.monotonic() + WEB_SOURCE)
    except (LookupError, TypeError, AttributeError):
        raise NoAnswer("réponse d'une autre forme") from None
    return {name: calendar[str(day)] for name, day in days.items() if str(day) in calendar}


class Evening:
    """The evening's facts as they are found, each with its source; the first to know counts."""

    def __init__(self) -> None:
        self.aujourdhui: Couleur | None = None
        self.demain: Couleur | None = None
        self.periode: Periode | None = None
        self.sources: dict[str, str] = {}  # who said it, by the names of Tempo's fields
        self.silent: list[str] = []  # why the others did not

    def learn(self, source: str, found: Mapping[str, Couleur | Periode | None]) -> None:
        """Take in what this source found, by the names of Tempo's fields."""
        for name, value in found.items():
            if value is not None and getattr(self, name) is None:
                setattr(self, name, value)
                self.sources[name] = source

    def unknown(self, days: Mapping[str, date]) -> dict[str, date]:
        """Those of these days whose colour is not known yet."""
        return {name: day for name, day in days.items() if name not in self.sources}

    def imposed(self, name: str) -> bool:
        """Whether the owner said so on the command line."""
        return self.sources.get(name, "").startswith("imposé")


def learn_from_web(evening: Evening, now: datetime) -> None:
    """Ask the web sources in turn, until the evening's days are known."""
    for source in WEB_SOURCES:
        days = evening.unknown(known_days(now))
        if not days:
            return
        trouble = "ne sait pas"
        try:
            evening.learn(source, ask_web(source, days))
        except NoAnswer as failure:
            trouble = str(failure)
        if evening.unknown(days):
            evening.silent.append(f"{source} : {trouble}")
            log.info("%s : %s", source, trouble)


def read_evening(
    imposed: Mapping[str, Any], config: Config, now: datetime
) -> tuple[Tempo, Evening]:
    """The colours and the period: what the owner imposes, else the EcoDevice's, else the web's.

    NoColour when nobody knows today's colour, or the meter's contract is another.
    """
    evening = Evening()
    for name, value in imposed.items():
        evening.learn("imposée" if name == "periode" else "imposé", {name: value})
    # An unknown demain alone asks nobody: today and the period imposed mean a trial.
    sources_wanted = evening.aujourdhui is None or evening.periode is None
    if sources_wanted and config.use_eco:
        try:
            evening.learn("EcoDevice", ask_ecodevice(config)._asdict())
        except NoAnswer as failure:
            evening.silent.append(str(failure))
            log.warning("%s", failure)
    if sources_wanted and config.use_api:
        learn_from_web(evening, now)
    evening.learn("horloge", {"periode": periode_at(now)})
    if evening.aujourdhui is None or evening.periode is None:
        raise NoColour(f"couleur du jour inconnue ({' ; '.join(evening.silent)})")
    tempo = Tempo(evening.aujourdhui, evening.demain, evening.periode)
    tell_tempo(tempo, evening, now)
    return tempo, evening


def tell_tempo(tempo: Tempo, evening: Evening, now: datetime) -> None:
    """Say the colours, where they come from, and what the owner should know of them."""
    sources = evening.sources
    told = f"TEMPO : aujourd'hui {tempo.aujourdhui} ({sources['aujourdhui']})"
    if tempo.demain:
        told += f", demain {tempo.demain} ({sources['demain']})"
    log.info("%s, période %s (%s)", told, tempo.periode, sources["periode"])
    if tempo.demain is None:
        level = logging.INFO
        if tempo.periode is Periode.HC and tempo.aujourdhui is not Couleur.BLEU:
            level = logging.WARNING
        log.log(level, "couleur de demain non annoncée, on garde celle du jour")
    clock = periode_at(now)
    if sources["periode"] == "EcoDevice" and tempo.periode is Periode.HP and clock is Periode.HC:
        advice = "déplacez la seconde ligne de crontab après son passage en HC"
        log.warning("le compteur est encore en HP : %s", advice)
    if evening.imposed("periode") and tempo.periode is Periode.HC and clock is Periode.HP:
        danger = "une recharge au prix fort peut commencer tout de suite"
        log.warning("heures creuses imposées en pleines heures pleines : %s", danger)


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
    is_number = type(value) in (int, float) and abs(value) < 1e9  # NaN is not
    return value if is_number else None


class Ledger:
    """What a run wants of the GX with this serial, heard of it and wrote. No broker here.

    Read empties `values` and fills it; a write or an empty N/ removes a value, and the next
    answer brings it back. `before` and `heard` stay: the first and the last that was heard.
    """

    def __init__(
        self, serial: str, target: Mapping[Setting, int], read_only: Collection[Setting]
    ) -> None:
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
        if match["serial"] != self.serial:
            return
        self.alive = True
        if retained:
            return
        for setting in self.settings():
            if setting.path == match["path"]:
                self.take(setting, payload)

    def take(self, setting: Setting, payload: bytes) -> None:
        """Take an answer in, or, when it is empty, what was known of this setting back."""
        if not payload:
            self.values.pop(setting, None)
            self.taken_back = True
            return
        value = value_in(payload, setting.is_text)
        if value is not None:
            self.values[setting] = value
            self.heard[setting] = value
            self.before.setdefault(setting, value)

    def start_reading(self) -> None:
        """Forget what may no longer be true."""
        self.values.clear()
        self.awaited.clear()
        self.mute.clear()
        self.taken_back = False

    def write(self, setting: Setting) -> None:
        """Note that it is being written: what it showed counts no more."""
        self.written.add(setting)
        self.awaited.add(setting)
        self.values.pop(setting, None)

    def missing(self, settings: Iterable[Setting]) -> list[Setting]:
        """Those of these settings that are still to answer or, if written, to show the target."""
        missing = []
        for setting in settings:
            value = self.values.get(setting)
            stale = setting in self.awaited and not agrees(setting, value, self.target[setting])
            if setting not in self.mute and (value is None or stale):
                missing.append(setting)
        return missing

    def changes(self) -> dict[Setting, int]:
        """What is to be written: what is held otherwise, except against the owner's choice."""
        changes = {}
        for setting, target in self.target.items():
            left_alone = setting is BATTERY_LIFE and owners_choice(self.heard)
            right = agrees(setting, self.values.get(setting), target)
            known = setting in self.values or setting in self.awaited
            if known and not right and not left_alone:
                changes[setting] = target
        return changes

    def may_still_answer(self) -> bool:
        """A real GX is there, or one may be on its way up, as a refused or cut try shows."""
        return self.alive or (self.troubled and not self.serials)

    def fate(self, setting: Setting) -> Fate:
        """What became of a setting of the target."""
        value = self.values.get(setting)
        written = setting in self.written
        if value is None and written:
            return Fate.PUBLISHED
        if setting in self.mute:
            return Fate.MUTE
        if value is None:
            return Fate.PENDING
        if setting is BATTERY_LIFE and not written and owners_choice(self.heard):
            return Fate.OWNERS
        if agrees(setting, value, self.target[setting]):
            return Fate.CONFIRMED if written else Fate.KEPT
        return Fate.REFUSED if written else Fate.PENDING

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
            return "Rien n'a été écrit, le GX garde ses réglages"
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
            end = time.monotonic() + CLOSE
            self.serve(lambda: self.client.socket() is None, end)

    def on_connect(
        self,
        _client: mqtt.Client,
        _data: object,
        _flags: object,
        reason: ReasonCode,
        _props: object,
    ) -> None:
        """Keep the broker's CONNACK."""
        self.connack = reason

    def on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        """Hand an N/ message to the ledger."""
        log.debug(
            "MQTT <- %s %s", shown(message.topic), shown(message.payload.decode(errors="replace"))
        )
        self.ledger.hear(message.topic, bytes(message.payload), message.retain)

    def connect(self) -> None:
        """One try, to CONNACK; NotLetIn, or Unreachable for a certificate that does not match."""
        config = self.config
        end = min(self.deadline, time.monotonic() + CONNECT_TRY)
        try:
            self.open(end)
        except ssl.SSLCertVerificationError:
            causes = "le GX l'a renouvelé, ou une horloge (ici ou sur le GX) est fausse"
            fetch_it = fetch_certificate(config.gx, config.gxport)
            trouble = "le certificat du GX n'est pas, ou plus, celui de gxcert"
            raise Unreachable(f"{trouble} : {causes} ; reprenez-le ({fetch_it})") from None
        except (OSError, ValueError) as error:
            raise self.lost(why(error)) from None
        if not self.serve(lambda: self.connack is not None, end):
            raise self.lost("pas de réponse à temps")
        if str(self.connack) in LOGIN_REFUSED:
            # A GX that is starting refuses the right password too: a new try may help.
            raise NotLetIn(
                "le GX refuse la connexion : vérifiez gxpassword dans secret.py, et sur le GX"
                " « MQTT access : On » (pas « Paired devices only »)"
            )
        if self.connack is None or self.connack.is_failure:
            raise self.lost("connexion refusée")

    def lost(self, reason: str) -> NotLetIn:
        """The failure to raise when the broker does not let us in, or not stay."""
        where = f"{self.config.gx}:{self.config.gxport}"
        text = f"GX injoignable à {where} ({reason}) : est-il allumé, MQTT activé ?"
        if self.config.gxcert is None and self.connack is None:
            text += " Avec le profil Secured, il faut gxtls"
        return NotLetIn(text)

    def open(self, end: float) -> None:
        """The TCP and TLS part of connect; OSError or ValueError."""
        config, client = self.config, self.client
        if config.gxpassword:
            # Any name does, but an empty one up to Venus 3.31.
            client.username_pw_set("tempo_ess", config.gxpassword)
        if config.gxcert:
            client.tls_set_context(pinned_context(config.gxcert))
        client.connect_timeout = CONNECT_TRY
        host = str(config.gx)
        bounded(end - time.monotonic(), lambda: client.connect(host, config.gxport, keepalive=15))

    def serve(self, done: Callable[[], bool], end: float) -> bool:
        """Serve the connection until done() or this end; NotLetIn when it is lost."""
        while not done():
            left = min(end, self.deadline) - time.monotonic()
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
        topics = [f"N/{self.ledger.serial}/{one.path}" for one in self.ledger.settings()]
        topics.append(f"N/+/{SERIAL_PATH}")
        self.client.subscribe([(topic, 0) for topic in topics])

    def ask(
        self, settings: Collection[Setting], until: Collection[Setting], seconds: float
    ) -> None:
        """R/ for what is missing of settings, each second, until nothing is missing of until."""
        end = min(self.deadline, time.monotonic() + seconds)
        while self.ledger.missing(until) and time.monotonic() < end:
            for setting in self.ledger.missing(settings):
                self.publish("R", setting)
            next_round = min(end, time.monotonic() + ASK_AGAIN)
            self.serve(lambda: not self.ledger.missing(until), next_round)

    def read(self) -> None:
        """Ask for the settings: 5 s, or 60 s in all when a GX is there or may be on its way up."""
        ledger = self.ledger
        ledger.start_reading()
        self.subscribe()
        self.ask(ledger.settings(), ledger.target, ANSWER)
        if ledger.may_still_answer():
            self.ask(ledger.settings(), ledger.target, STARTING - ANSWER)
        if ledger.values:
            self.ask(ledger.read_only, ledger.read_only, READ_ONLY)
            ledger.mute.update(ledger.missing(ledger.settings()))

    def write(self, settings: Mapping[Setting, int]) -> None:
        """W/ for these settings."""
        for setting, value in settings.items():
            self.ledger.write(setting)
            self.publish("W", setting, json.dumps({"value": value}, separators=(",", ":")))

    def apply(self) -> None:
        """Write what differs, ask for 5 s until the GX shows it; once more for the rest."""
        for _ in range(2):
            self.write(self.ledger.changes())
            self.ask(self.ledger.settings(), self.ledger.target, ANSWER)

    def work(self, dry_run: bool, blindly: bool) -> None:
        """Read, compare, write, confirm; blindly: write, and no more.

        From Read again when the settings service went away meanwhile. Unconfirmed when nobody
        answers, or somebody else.
        """
        if blindly and not dry_run:
            self.write(self.ledger.target)
            return
        while True:
            self.read()
            if not self.ledger.values:
                self.nobody_answers(dry_run)
                return
            if not dry_run:
                self.apply()
            if not self.ledger.taken_back or time.monotonic() >= self.deadline:
                return

    def nobody_answers(self, dry_run: bool) -> None:
        """A GX that is not up, another GX, or a test broker, which gets the target once."""
        ledger = self.ledger
        if ledger.may_still_answer():
            raise Unconfirmed("le GX est là mais ses réglages ne répondent pas : redémarre-t-il ?")
        if ledger.serials:
            seen = ", ".join(shown(serial) for serial in sorted(ledger.serials)[:4])
            announced = f"gxsn = {ledger.serial} n'est pas le numéro de ce GX, qui annonce {seen}"
            raise Unconfirmed(f"{announced} : corrigez secret.py")
        if dry_run:
            log.info("aucun GX sur ce broker (broker de test ?)")
            return
        self.write(ledger.target)
        raise Unconfirmed(
            "aucun GX ne répond : c'est un broker de test (alors --no-confirm),"
            f" ou un GX dont gxsn n'est pas {ledger.serial} (--check nomme le bon)"
        )


def set_gx(config: Config, ledger: Ledger, dry_run: bool, blindly: bool) -> None:
    """The GX's part of a run, in as many tries as its time allows.

    Unreachable when nobody let us in, Unconfirmed when something was published and is not proven;
    else the ledger says what was read and written.
    """
    start = time.monotonic()
    end = start + GX_CONNECT
    while True:
        try:
            with Link(config, ledger, end) as link:
                link.connect()
                end = start + GX_WORK  # once let in, the whole time counts
                link.deadline = end
                link.work(dry_run, blindly)
                return
        except Unreachable as failure:
            if ledger.written:
                raise Unconfirmed(str(failure)) from None
            raise
        except NotLetIn as error:
            ledger.troubled = True
            reason = str(error)
        if time.monotonic() + CONNECT_PAUSE >= end:
            raise (Unconfirmed if ledger.written else Unreachable)(reason)
        log.info("%s", sentences(reason, f"Nouvel essai dans {CONNECT_PAUSE:g} s"))
        time.sleep(CONNECT_PAUSE)


# ---- Notification --------------------------------------------------------------------------------


def prowl(key: str, call: Callable[[pyprowl.Prowl], object]) -> str | None:
    """Call Prowl, bounded; None when it agrees, else why not.

    Never in its own words, which can hold the key. pyprowl raises bare Exception and KeyError.
    """
    log.debug("HTTP POST api.prowlapp.com")
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
    trouble = prowl(config.prowlkey, lambda service: service.notify("EDF TEMPO", text, priority))
    if trouble:
        log.warning("notification non envoyée (%s) : %s", trouble, text)
    else:
        log.info("notification : %s", text)


# ---- --check -------------------------------------------------------------------------------------


class Level(IntEnum):
    """How a line of the table reads; as levels of logging."""

    OK = logging.INFO
    ATTENTION = logging.WARNING
    ERREUR = logging.ERROR


class Row(NamedTuple):
    """A line of the table; code: that of a run which meets this error."""

    level: Level
    subject: str
    text: str
    code: Exit = Exit.OK


class Check(NamedTuple):
    """The right values of a setting of the GX (None: any), and where to put it right."""

    setting: Setting
    right: Collection[Value] | None = None
    advice: str = ""


def same_clock(zone: Value, now: datetime) -> bool:
    """Whether this time zone, as a GX names it, has the clock of Paris, in winter and in summer."""
    try:
        other = ZoneInfo(str(zone).lstrip("/"))
    except (LookupError, OSError, ValueError):
        return False
    moments = (now, now + timedelta(days=182))
    return all(one.astimezone(other).utcoffset() == one.utcoffset() for one in moments)


ESS_MENU = "Settings > System setup > ESS"
SCHEDULES = f"{ESS_MENU} > Scheduled charge levels"
MENU = f"{SCHEDULES} > Schedule 1"
CLOCK_MENU = "Settings > General > Date & Time > Time zone"
START = Setting(schedule(1, "Start"), "Schedule 1 Start", time_of_day)
DURATION = Setting(schedule(1, "Duration"), "Schedule 1 Duration", hours)
DISCHARGE = Setting(
    schedule(1, "AllowDischarge"), "Schedule 1 Discharge", names=((0, "PV"), (1, "PV & Battery"))
)
OTHER_DAYS = [
    Setting(schedule(n, "Day"), f"Schedule {n} Day", names=DAY_NAMES) for n in (2, 3, 4, 5)
]
DYNAMIC_ESS = Setting("settings/0/Settings/DynamicEss/Mode", "Dynamic ESS", names=((0, "Off"),))
TIME_ZONE_PATH = "settings/0/Settings/System/TimeZone"
TIME_ZONE = Setting(TIME_ZONE_PATH, "fuseau du GX", shown_bare, is_text=True)
NEEDED = (SOC, MIN_SOC, BATTERY_LIFE, *RELAYS.values())  # without which a run ends with exit 5


CHECKS = [
    Check(HUB4_MODE, (1, 2), f"BatteryLife n'est pas réglé : {ESS_MENU} > Mode"),
    Check(BATTERY_LIFE, [*ON_STATES, *OFF_STATES], f"bloque la charge : {ESS_MENU} > Mode"),
    Check(MIN_SOC),
    Check(SOC),
    Check(DAY, (7,), f"pas de recharge tous les soirs : {MENU} > Day, Every day"),
    Check(START, (79200,), f"il faut 22:00 : {MENU} > Start time"),
    Check(DURATION, (28800,), f"il faut 8 h : {MENU} > Duration"),
    Check(DISCHARGE, (0,), f"il faut PV : {MENU} > Self-consumption above limit"),
    Check(DYNAMIC_ESS, (0,), f"bloque la charge : {ESS_MENU} > Dynamic ESS, Off"),
]


def gx_checks(config: Config, zone: Value | None, now: datetime) -> list[Check]:
    """What --check looks at on a GX in this time zone."""
    zones: list[Value] = [zone] if zone and same_clock(zone, now) else []
    wrong_clock = "n'a pas l'heure de Paris, ce qui décale la charge"
    checks = [*CHECKS, Check(TIME_ZONE, zones, f"{wrong_clock} : {CLOCK_MENU}, Europe/Paris")]
    for day in OTHER_DAYS:
        advice = f"actif, il peut charger en heures pleines : {SCHEDULES}"
        checks.append(Check(day, INACTIVE_DAYS, advice))
    if config.relay:
        checks.append(Check(RELAYS[config.relay.number]))
        function = RELAY_FUNCTIONS[config.relay.number]
        checks.append(Check(function, (MANUAL,), f"il faut {RELAY_MENU}"))
    return checks


def check_clock(now: datetime) -> Row:
    """Cron follows the machine's clock."""
    here = now.astimezone()  # to the machine's zone
    told = f"{here:%H:%M} (UTC{here:%z})"
    if here.utcoffset() == now.utcoffset():
        return Row(Level.OK, "heure de la machine", told)
    advice = "cron la suit : sudo timedatectl set-timezone Europe/Paris"
    return Row(Level.ATTENTION, "heure de la machine", f"{told}, {now:%H:%M} à Paris ; {advice}")


def check_ecodevice(config: Config, now: datetime) -> tuple[Row, bool]:
    """The EcoDevice's line, and whether it settles today's colour, be it as an error."""
    try:
        tempo = ask_ecodevice(config)
    except NoAnswer as failure:
        if config.use_api:
            return Row(Level.ATTENTION, "EcoDevice", f"{failure} ; le web le remplace"), False
        return Row(Level.ERREUR, "EcoDevice", str(failure), failure.code), True
    except NoColour as failure:
        return Row(Level.ERREUR, "EcoDevice", str(failure), failure.code), True
    text = f"PTEC {tempo.aujourdhui} en {tempo.periode}, DEMAIN {tempo.demain or 'non annoncé'}"
    level = Level.OK
    if tempo.demain is None and not 6 <= now.hour < 20:
        level = Level.ATTENTION
    return Row(level, "EcoDevice", text), True


def check_source(source: str, now: datetime) -> tuple[Row, bool]:
    """A web source's line, and whether it gives today's colour."""
    trouble = "ne sait pas"
    found: dict[str, Couleur] = {}
    try:
        found = ask_web(source, known_days(now))
    except NoAnswer as failure:
        trouble = str(failure)
    if not found:
        advice = "rien à faire si une autre source répond"
        return Row(Level.ATTENTION, source, f"{trouble} : {advice}"), False
    labels = {"aujourdhui": "aujourd'hui", "demain": "demain"}
    text = ", ".join(f"{labels[day]} {found[day]}" for day in found)
    return Row(Level.OK, source, text), "aujourdhui" in found


def check_colours(config: Config, now: datetime) -> Iterator[Row]:
    """The sources' lines, and an error when none gives today's colour."""
    settled = False
    if config.use_eco and config.ecodevice:
        row, settled = check_ecodevice(config, now)
        yield row
    for source in WEB_SOURCES if config.use_api else ():
        row, known = check_source(source, now)
        yield row
        settled = settled or known
    if not settled:
        text = "aucune source ne la donne : rien ne serait réglé"
        yield Row(Level.ERREUR, "couleur du jour", text, Exit.COLOUR)


def check_serial(ledger: Ledger) -> Row:
    """The serial's line; the ledger goes on with the one that is announced."""
    if not ledger.serials:
        return Row(Level.ATTENTION, "gxsn", "ce broker n'annonce aucun GX : broker de test ?")
    if ledger.serial in ledger.serials:
        return Row(Level.OK, "gxsn", f"{ledger.serial}, annoncé par ce GX")
    ledger.serial = min(ledger.serials)
    text = f"ce GX annonce {shown(ledger.serial)} : à mettre dans secret.py"
    return Row(Level.ERREUR, "gxsn", text, Exit.UNCONFIRMED)


def check_setting(check: Check, ledger: Ledger) -> Row:
    """The line of one setting of the GX."""
    setting = check.setting
    value = ledger.values.get(setting)
    if value is None:
        level = Level.ERREUR if setting in NEEDED else Level.ATTENTION
        return Row(level, setting.label, "non lisible", Exit.UNCONFIRMED)
    if check.right is None or value in check.right:
        return Row(Level.OK, setting.label, setting.text(value))
    return Row(Level.ATTENTION, setting.label, f"{setting.text(value)}, {check.advice}")


def check_gx(config: Config, now: datetime) -> Iterator[Row]:
    """The GX's lines, read under the serial that it announces when gxsn is missing or another."""
    settings = [one.setting for one in gx_checks(config, None, now)]
    ledger = Ledger(config.gxsn or "", {}, settings)
    try:
        with Link(config, ledger, time.monotonic() + GX_CONNECT) as link:
            link.connect()
            yield Row(Level.OK, "GX", f"joint à {config.gx}:{config.gxport}")
            link.subscribe()
            link.serve(lambda: bool(ledger.serials), time.monotonic() + ANSWER)
            yield check_serial(ledger)
            link.subscribe()  # again: the ledger may have another serial now
            link.ask(settings, settings, ANSWER)
    except (Unreachable, NotLetIn) as failure:
        yield Row(Level.ERREUR, "GX", str(failure), Exit.GX)
        return
    if ledger.values:
        checks = gx_checks(config, ledger.values.get(TIME_ZONE), now)
        yield from (check_setting(one, ledger) for one in checks)
    else:
        text = "aucun ne répond : broker de test, ou GX qui redémarre ?"
        yield Row(Level.ERREUR, "réglages du GX", text, Exit.UNCONFIRMED)


def check(path: Path, now: datetime) -> Iterator[Row]:
    """The lines of --check, past every error."""
    yield check_clock(now)
    try:
        config, problems, hints = examine(path)
    except WrongUsage as failure:
        yield Row(Level.ERREUR, "secret.py", str(failure), failure.code)
        return
    if path.stat().st_mode & stat.S_IROTH:
        hints.append(f"lisible par tous : chmod 600 {path}")
    if not problems and not hints:
        yield Row(Level.OK, "secret.py", str(path))
    for text in problems:
        yield Row(Level.ERREUR, "secret.py", text, Exit.USAGE)
    for text in hints:
        yield Row(Level.ATTENTION, "secret.py", text)
    yield from check_colours(config, now)
    access = ("gxtls", "gxcert", "gxport", "gxpassword")
    if config.gx and not any(text.startswith(access) for text in problems):
        yield from check_gx(config, now)
    if config.prowlkey:
        trouble = prowl(config.prowlkey, lambda service: service.verify_key())
        if trouble:
            yield Row(Level.ATTENTION, "Prowl", trouble)
        else:
            yield Row(Level.OK, "Prowl", "clé acceptée")


def print_check(path: Path, now: datetime, quiet: bool) -> Exit:
    """The table on stdout (quiet: what is not OK, on stderr); a run's code for the first error."""
    code = Exit.OK
    words = {Level.OK: "OK", Level.ATTENTION: "attention", Level.ERREUR: "erreur"}
    colours = {Level.OK: 32, Level.ATTENTION: 33, Level.ERREUR: 31}
    on_terminal = sys.stdout is not None and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for row in check(path, now):
        word = f"{words[row.level]:<9}"
        if on_terminal:
            word = f"\x1b[{colours[row.level]}m{word}\x1b[0m"
        if quiet:
            log.log(row.level, "%s : %s", row.subject, row.text)
        else:
            log.info("%s  %-20s  %s", word, row.subject, row.text)
        if row.level is Level.ERREUR and code is Exit.OK:
            code = row.code
    return code


# ---- Program -------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """argparse, with its errors in French and as a Failure."""

    def error(self, message: str) -> NoReturn:
        """Say which option is wrong, without argparse's English."""
        named = re.findall(r"--?[\w-]+", message)
        option = named[0] if named else "ligne de commande"
        trouble = "valeur inconnue"
        if "not allowed with" in message:
            option = " et ".join(named)
            trouble = "ne vont pas ensemble"
        elif "expected one argument" in message:
            trouble = "il manque la valeur"
        elif "ignored explicit argument" in message:
            trouble = "ne prend pas de valeur"
        raise WrongUsage(f"{option} : {trouble} (voir --help)")


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
    config_help = "configuration, sinon secret.py près du script"
    add("--config", metavar="FICHIER", type=Path, default=secret, help=config_help)
    dry_help = "lit tout, montre ce qui changerait, n'écrit rien"
    mode.add_argument("--dry-run", action="store_true", help=dry_help)
    check_help = "contrôle l'installation, n'écrit rien"
    mode.add_argument("--check", action="store_true", help=check_help)
    day_help = "impose la couleur du jour : bleu, blanc ou rouge"
    add("--today", metavar="C", type=couleur, help=day_help)
    add("--tomorrow", metavar="C", type=couleur, help="impose la couleur de demain")
    add("--period", metavar="HP|HC", type=periode, help="impose la période")
    blind_help = "publie sans lire ni confirmer : pour un broker de test"
    add("--no-confirm", action="store_true", help=blind_help)
    add("--no-notify", action="store_true", help="n'envoie pas de notification")
    quiet_help = "ne dit que les avertissements et les erreurs"
    volume.add_argument("--quiet", action="store_true", help=quiet_help)
    verbose_help = "dit aussi chaque requête HTTP et chaque message MQTT"
    volume.add_argument("--verbose", action="store_true", help=verbose_help)
    version = f"tempo_ess {__version__}"
    add("--version", action="version", version=version, help="affiche la version")
    add("-h", "--help", action="help", help="affiche cette aide")
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        raise WrongUsage(f"{unknown[0]} : option inconnue (voir --help)")
    return options


def relay_warning(config: Config, ledger: Ledger) -> str | None:
    """What keeps a write to the relay from holding."""
    if config.relay is None:
        return None
    setting = RELAY_FUNCTIONS[config.relay.number]
    function = ledger.values.get(setting, MANUAL)
    if function == MANUAL:
        return None
    return f"{setting.label} : {setting.text(function)}, l'écriture ne tient pas. {RELAY_MENU}"


def verdict(ledger: Ledger, relay_trouble: str | None, allowed: Fate | None) -> str | None:
    """What keeps the run from exit 0 among what became of the settings; None when nothing does."""
    fine = (Fate.KEPT, Fate.CONFIRMED, Fate.OWNERS, allowed)
    troubles = []
    for setting, fate in ledger.fates().items():
        if fate in fine:
            continue
        if fate is not Fate.MUTE:
            troubles.append(f"le GX ne confirme pas {setting.label}")
        elif relay_trouble and setting in RELAYS.values():
            troubles.append(f"{setting.label} ne répond pas ({relay_trouble})")
        else:
            troubles.append(f"le GX ne répond pas pour {setting.label}")
    if not troubles:
        return None
    return " ; ".join(troubles)


def report(ledger: Ledger, relay_trouble: str | None) -> str | None:
    """Say what became of each setting; the remark on an inactive Schedule 1, if there is one."""
    for setting in ledger.target:
        log.info(ledger.line(setting))
    choice = owners_choice(ledger.heard)
    if BATTERY_LIFE in ledger.target and choice:
        log.warning("%s : BatteryLife est %s", choice, Fate.OWNERS)
    if relay_trouble:
        log.warning("%s", relay_trouble)
    if float(ledger.values.get(DAY, 0)) >= 0:
        return None
    inactive = "Schedule 1 inactif : pas de recharge programmée"
    log.info(inactive)
    return inactive


def run(options: argparse.Namespace, config: Config, now: datetime) -> tuple[str | None, int]:
    """The evening in one straight line; text and priority of its push, or Failure."""
    imposed = {"aujourdhui": options.today, "demain": options.tomorrow, "periode": options.period}
    tempo, evening = read_evening(imposed, config, now)
    target = target_settings(tempo, config, now)
    ledger = Ledger(str(config.gxsn), target, read_only_settings(tempo, config))
    failure: Failure | None = None
    try:
        set_gx(config, ledger, options.dry_run, options.no_confirm)
    except Failure as error:
        failure = error
    relay_trouble = relay_warning(config, ledger)
    inactive = report(ledger, relay_trouble)
    if not evening.imposed("aujourdhui"):
        written = {setting: target[setting] for setting in target if setting in ledger.written}
        for told in somebody_else(written, config.profiles[tempo.aujourdhui], ledger.before):
            log.warning("%s", told)
    allowed = None
    if options.dry_run:
        allowed = Fate.PENDING
    elif options.no_confirm:
        allowed = Fate.PUBLISHED
    trouble = verdict(ledger, relay_trouble, allowed)
    if failure is None and trouble:
        failure = Unconfirmed(trouble)
    if failure:
        told = str(failure)
        if tempo.demain and tempo.demain is not tempo.aujourdhui:
            told = f"demain {tempo.demain} : {told}"
        texts = [told, ledger.left_with()]
        if inactive:
            texts.append(inactive)
        raise type(failure)(sentences(*texts))
    notice = change_notice(tempo, config, ledger.fates())
    if notice and inactive:
        notice = sentences(notice, inactive)
    return notice, int(tempo.demain is Couleur.ROUGE)


def run_and_tell(options: argparse.Namespace, config: Config, now: datetime) -> None:
    """The run and its push, whatever its end."""
    if options.dry_run or options.no_notify:
        config = config._replace(prowlkey=None)
    try:
        text, priority = run(options, config, now)
    except NoColour as failure:
        nothing = sentences(str(failure), "Rien n'a été écrit, le GX garde ses réglages")
        push(config, f"Échec (code {failure.code}) : {nothing}", 1)
        raise NoColour(nothing) from None
    except Failure as failure:
        push(config, f"Échec (code {failure.code}) : {failure}", 1)
        raise
    except Exception:
        trouble = "bogue du script, le GX est peut-être à moitié réglé"
        push(config, f"Échec (code {Exit.BUG}) : {trouble}", 1)
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
            return print_check(options.config, clock(), options.quiet)
        run_and_tell(options, load_config(options.config), clock())
        return Exit.OK
    except Failure as failure:
        log.error("%s", failure)
        return failure.code
    except KeyboardInterrupt:
        log.error("interrompu : relancez le script, il reprendra où il en est")
        return 130
    except Exception:
        log.exception("bogue du script, merci de le signaler avec ce qui suit")
        return Exit.BUG


if __name__ == "__main__":
    raise SystemExit(main())
