#!/usr/bin/env python3
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
  5      publié mais non confirmé, réglage muet, ou valeur refusée par le GX
"""

import argparse
import difflib
import io
import json
import logging
import os
import re
import socket
import ssl
import stat
import struct
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from enum import IntEnum, StrEnum
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar
from uuid import uuid4
from zoneinfo import ZoneInfo

try:
    import paho.mqtt.client as mqtt
    import pyprowl  # type: ignore[import-untyped]
    import requests
    from paho.mqtt.enums import CallbackAPIVersion  # absent before paho-mqtt 2
    from requests.auth import AuthBase, HTTPBasicAuth
except ImportError as missing:  # the system's python instead of the venv's: the commonest slip, so no traceback
    with suppress(OSError):
        os.write(2, f"erreur : {missing.name} manque, lancez le script avec le python de son .venv\n".encode())
    raise SystemExit(2) from None

__version__ = "1.0.0"

log = logging.getLogger("tempo_ess")
T = TypeVar("T")

# ---- Exit codes, the one way to wait, what peers say ---------------------------------------------

Exit = IntEnum("Exit", ["OK", "BUG", "USAGE", "COLOUR", "GX", "UNCONFIRMED"], start=0)


class Failure(Exception):
    """An expected failure, as opposed to a bug in this script: an exit code and a French sentence."""

    def __init__(self, code: Exit, text: str, again: bool = False) -> None:
        super().__init__(text)
        self.code, self.again = code, again  # again: a new try may help


class NoAnswer(Failure):
    """A colour source that is down or does not know, so that the next one is asked."""


# Seconds: the most that each part of a run takes in all, whatever its peers do. Their sum bounds the run.
LIMITS = {
    "EcoDevice": 30.0,
    "RTE": 15.0,
    "api-couleur-tempo.fr": 15.0,
    "connect": 120.0,  # a GX reboots in about two minutes
    "read": 60.0,
    "confirm": 20.0,  # two rounds, and two more after a lost connection
    "close": 1.0,
    "Prowl": 15.0,
}
# Seconds: the pace inside those limits. EcoDevice polls closer than 2 s make it unstable [Domoticz]; a GX delays
# its answer to a wrong password by up to 6 s; Venus before 3.20 takes up to 1 s for any answer.
PACE = {"EcoDevice try": 8.0, "EcoDevice pause": 2.0, "connect try": 10.0, "connect pause": 5.0}
PACE |= {"answer": 5.0, "ask again": 1.0, "read only": 1.0}
MAX_BODY = 64 * 1024  # bytes read of an HTTP answer


def bounded(seconds: float, call: Callable[[], T]) -> T:
    """The result of call(), or TimeoutError after so many seconds while call goes on in a daemon thread.

    For whatever cannot be trusted to return: DNS, a body that drips, pyprowl (which has no time-out).
    """
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return outcome.result(max(0.0, seconds))


def shown(text: object) -> str:
    """Text that came from a peer, fit for a terminal: at most 40 of its characters, escaped."""
    return ascii(str(text)[:40])


WORDS: dict[type[BaseException], str] = {  # the first that fits
    socket.gaierror: "nom inconnu du réseau",
    TimeoutError: "pas de réponse à temps",
    ConnectionRefusedError: "connexion refusée",
    ConnectionError: "connexion coupée",
    ssl.SSLError: "échec TLS",
    OSError: "réseau injoignable",
}


def why(error: BaseException) -> str:
    """French words for a peer's failure; never the exception's own, which can hold a key or the peer's bytes."""
    causes = [error]
    while cause := causes[0].__cause__ or causes[0].__context__:
        causes.insert(0, cause)
    causes = [cause for cause in causes if not isinstance(cause, requests.RequestException)]
    found = [words for cause in causes for kind, words in WORDS.items() if isinstance(cause, kind)]
    return found[0] if found else "réponse illisible"


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in body, else ValueError; a DEMAIN may hold a raw newline [Aohzan/ecodevices #32]."""
    try:
        value = json.loads(body.decode("utf-8-sig", "replace"), strict=False)
    except RecursionError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


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


# Tempo's fields, as a person reads them.
LABELS = {"aujourdhui": "aujourd'hui", "demain": "demain", "periode": "période"}


class Tempo(NamedTuple):
    """What the decision rests on; demain is None while it is not announced."""

    aujourdhui: Couleur
    demain: Couleur | None
    periode: Periode


def paris_now() -> datetime:
    """The time in Europe/Paris, whatever the machine's zone."""
    return datetime.now(ZoneInfo("Europe/Paris"))


def periode_at(now: datetime) -> Periode:
    """The period by the Paris clock."""
    return Periode.HP if 6 <= now.hour < 22 else Periode.HC


def known_days(now: datetime) -> dict[str, date]:
    """The dates that name the TEMPO day in force at this Paris time and, from 11:00 of it on, the next one.

    Before 06:00 the day in force is yesterday's. RTE's choice binds at 10:30: what shows earlier may change.
    """
    today = now.date() - timedelta(days=now.hour < 6)
    return {"aujourdhui": today} | ({} if 6 <= now.hour < 11 else {"demain": today + timedelta(days=1)})


# ---- GX settings ---------------------------------------------------------------------------------

Value = float | str


def ess_mode(state: Value | None) -> str:
    """What a person chooses behind a raw BatteryLife/State: the GX itself moves 1 to 2..8 and 10 to 11 or 12.

    9 is the owner's "Keep batteries charged" [dbus-systemcalc-py].
    """
    if state == 9:
        return "Keep batteries charged"
    return "on" if state in range(1, 9) else "off" if state in range(10, 13) else f"State {state}"


def named(names: Mapping[float, str]) -> Callable[[float], str]:
    """How to show a value that has a name."""
    return lambda value: names.get(value, f"{value:g}")


class Setting(NamedTuple):
    """A value on the GX: its path below N/<sn>/, R/<sn>/ and W/<sn>/, its label, how a value is shown."""

    path: str
    label: str
    text: Callable[[Any], str] = "{:g}".format
    type: type = float


CGWACS = "settings/0/Settings/CGwacs/"
SCHEDULE = CGWACS + "BatteryLife/Schedule/Charge/0/"
SOC = Setting(SCHEDULE + "Soc", "Schedule 1 SoC", "{:g} %".format)
MIN_SOC = Setting(CGWACS + "BatteryLife/MinimumSocLimit", "MinSoc", "{:g} %".format)
BATTERY_LIFE = Setting(CGWACS + "BatteryLife/State", "BatteryLife", ess_mode)
DAY = Setting(SCHEDULE + "Day", "Schedule 1 Day", named({7: "tous les jours"}))
HUB4_MODE = Setting(CGWACS + "Hub4Mode", "Mode ESS (Hub4Mode)", named({1: "ESS", 2: "ESS", 3: "contrôle externe"}))
RELAYS = [Setting(f"system/0/Relay/{n}/State", f"Relais {n + 1}", named({0: "ouvert", 1: "fermé"})) for n in (0, 1)]
STATE_ON, STATE_OFF = 1, 10  # the only States written: the others are the GX's own [dbus-systemcalc-py]
EXTERNAL_CONTROL = 3  # of Hub4Mode

Values = Mapping[Setting, Value]


def agrees(setting: Setting, value: Value | None, target: int) -> bool:
    """Whether the GX holds the target: BatteryLife by mode, numbers as numbers (30.0 is 30)."""
    return ess_mode(value) == ess_mode(target) if setting is BATTERY_LIFE else value == target


def owners_choice(values: Values) -> str:
    """The ESS mode that the owner chose and under which State is left alone; empty when there is none."""
    if values.get(HUB4_MODE) == EXTERNAL_CONTROL:
        return "contrôle externe (Hub4Mode 3)"
    return "Keep batteries charged (State 9)" if values.get(BATTERY_LIFE) == 9 else ""


# ---- Configuration -------------------------------------------------------------------------------


class Config(NamedTuple):
    """secret.py, checked. SoC in percent; an empty text means "not set", and so does 0 for gxport and relais."""

    ecodevice: str = ""
    ecouser: str = ""
    ecopassword: str = ""
    ecoinput: int = 1
    use_eco: bool = True
    use_api: bool = True
    gx: str = ""
    gxsn: str = ""
    gxport: int = 0
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
    relais: int = 0
    relais_couleurs: Collection[str] = ("BLANC", "ROUGE")
    relais_debut: str = "06:00"
    relais_fin: str = "22:00"


SECRETS = {"prowlkey", "gxpassword", "ecopassword"}
TYPES = {str: "un texte entre guillemets", bool: "True ou False", int: "un nombre entier, sans guillemets"}
# What a value must look like beyond its type, and the words that ask for it.
HOST = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?"
IPV6 = r"[0-9A-Fa-f.]*(:[0-9A-Fa-f.]*){2,}(%\w+)?"
HOUR = "([01][0-9]|2[0-3]):[0-5][0-9]"
FORMS: dict[str, tuple[str | range, str]] = {
    "ecodevice": (HOST + "(:[1-6]?[0-9]{1,4})?", "un nom ou une adresse, avec :port si besoin, sans http://"),
    "ecoinput": (range(1, 3), "1 ou 2"),
    "gx": (f"{HOST}|{IPV6}", "un nom ou une adresse, sans http:// ni port (il se met dans gxport)"),
    "gxsn": ("[0-9A-Fa-f]{12}", "12 chiffres hexadécimaux, le VRM Portal ID"),
    "gxport": (range(1, 65536), "un numéro de port, de 1 à 65535"),
    "relais": (range(1, 3), "1 ou 2"),
    "relais_debut": (HOUR, 'une heure comme "06:00"'),
    "relais_fin": (HOUR, 'une heure comme "22:00"'),
}


def expected(name: str, value: object) -> str:
    """What secret.py should hold under this name; empty when value is right."""
    default = Config._field_defaults[name]
    if isinstance(default, tuple):
        right = isinstance(value, list | tuple) and all(isinstance(one, str) and one in set(Couleur) for one in value)
        return "" if right else 'une liste comme ["BLANC", "ROUGE"]'
    if type(value) is not type(default) or (isinstance(value, str) and not value.isprintable()):
        return TYPES[type(default)]
    form, words = FORMS.get(name, ("", ""))
    right = value in form if isinstance(form, range) else not form or re.fullmatch(form, str(value)) is not None
    return "" if right or value == "" == default else words


def run_secret(path: Path) -> dict[str, Any]:
    """The variables of secret.py; Failure when it is absent, unsafe or wrong Python.

    An error is told by its place alone: its text, and Python's own warnings, can show a key.
    """
    try:
        status = path.stat()
        source = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
    except FileNotFoundError:
        raise Failure(Exit.USAGE, f"{path} absent : copiez secret.py.example et remplissez-le") from None
    except OSError:
        source = None
    if source is None:
        raise Failure(Exit.USAGE, f"{path} illisible : il faut un fichier que cet utilisateur peut lire")
    if status.st_mode & stat.S_IWOTH:
        raise Failure(Exit.USAGE, f"{path} est modifiable par tous, et cron l'exécute : chmod 600 {path}")
    if status.st_uid not in (os.geteuid(), 0):
        raise Failure(Exit.USAGE, f"{path} est à un autre utilisateur, et cron l'exécute : changez-le par chown")
    names: dict[str, Any] = {"__name__": "secret", "__file__": str(path)}
    try:
        with warnings.catch_warnings(action="ignore"):
            exec(compile(source, str(path), "exec"), names)
    except SyntaxError as error:
        place = f"{path}, ligne {error.lineno}" if error.lineno else str(path)
        raise Failure(Exit.USAGE, f"{place} : mal écrit (guillemets droits ? rien devant le nom ?)") from None
    except (Exception, SystemExit) as error:
        inner = error.__traceback__ and error.__traceback__.tb_next
        place = f"{path}, ligne {inner.tb_lineno}" if inner else str(path)
        raise Failure(Exit.USAGE, f"{place} : {type(error).__name__} (guillemets oubliés ? True, False ?)") from None
    return names


def pinned_context(cert: str) -> ssl.SSLContext:
    """TLS that trusts this one certificate; OSError when the file is not one.

    The GX's is self-signed, CN=venus.local, without SAN, so a name check is impossible. Not
    create_default_context, which grows stricter about certificates (VERIFY_X509_STRICT from Python 3.13 on).
    """
    if not Path(cert).is_file():
        raise FileNotFoundError(cert)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cert)
    return context


def contradictions(config: Config, wrong: Collection[str]) -> Iterator[str]:
    """What is missing or does not go together, leaving out the names that are wrong in themselves."""
    for name in ("gx", "gxsn", *(["ecodevice"] if config.use_eco else [])):
        if not getattr(config, name) and name not in wrong:
            yield f"{name} manque : il faut {FORMS[name][1]}"
    if not config.use_eco and not config.use_api:
        yield "use_eco = False, use_api = False : il faut au moins une source de couleur"
    for low, high in ((f"min{couleur.lower()}", f"chg{couleur.lower()}") for couleur in Couleur):
        held = {name: getattr(config, name) for name in (low, high) if name not in wrong}
        if not 10 <= held.get(low, 10) <= held.get(high, 100) <= 100:
            told = ", ".join(f"{name} = {value}" for name, value in held.items())
            yield f"{told} : il faut 10 <= {low} <= {high} <= 100"
    if config.relais_debut >= config.relais_fin and not {"relais_debut", "relais_fin"} & {*wrong}:
        yield f"relais_debut = {config.relais_debut}, relais_fin = {config.relais_fin} : il faut le début avant la fin"
    if config.gxtls and "gxcert" not in wrong:
        try:
            pinned_context(config.gxcert)
        except OSError as error:
            what = "n'est pas un certificat" if isinstance(error, ssl.SSLError) else "illisible"
            fetch = f"openssl s_client -connect {config.gx}:{config.gxport} </dev/null | openssl x509 > gx.crt"
            yield f"gxcert {f'= {config.gxcert} {what}' if config.gxcert else 'manque'} : il s'obtient par {fetch}"


def examine(path: Path) -> tuple[Config, list[str], list[str]]:
    """secret.py: what is usable of it, every problem, and hints about names that look mistyped."""
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    hints: list[str] = []
    for name, value in run_secret(path).items():
        if name in Config._fields:
            values[name] = value
            if want := expected(name, value):
                del values[name]
                problems[name] = f"{name} = {'(masqué)' if name in SECRETS else repr(value)[:40]} : il faut {want}"
        elif not (name.startswith("_") or hasattr(value, "__name__")):
            near = difflib.get_close_matches(name.lower(), Config._fields, 1, 0.75)
            hints += [f"{name} inconnu : vouliez-vous dire {known} ?" for known in near]
    config = Config(**values)
    config = config._replace(
        gxsn=config.gxsn.lower(),
        gxport=config.gxport or (8883 if config.gxtls else 1883),
        gxcert=config.gxcert and str(path.parent / config.gxcert),
    )
    return config, [*problems.values(), *contradictions(config, problems)], hints


def load_config(path: Path) -> Config:
    """The configuration; Failure with every problem at once, before anything is contacted."""
    config, problems, hints = examine(path)
    for hint in hints:
        log.warning("%s : %s", path, hint)
    if problems:
        raise Failure(Exit.USAGE, "\n  ".join([f"{path} est à corriger, rien n'a été contacté", *problems]))
    return config


# ---- Decision ------------------------------------------------------------------------------------


def profile(config: Config, couleur: Couleur) -> dict[Setting, int]:
    """The three settings that belong to a day of this colour."""
    charge, floor, on = (getattr(config, kind + couleur.lower()) for kind in ("chg", "min", "bl"))
    return {SOC: charge, MIN_SOC: floor, BATTERY_LIFE: STATE_ON if on else STATE_OFF}


def target_settings(tempo: Tempo, config: Config, now: datetime) -> dict[Setting, int]:
    """What the GX is to hold after a run at this Paris time.

    HP: the charge alone, since raising MinSoc or turning BatteryLife on can start a recharge at peak price.
    HC: all three; while demain is unknown, today's, and the charge stays as the 20:05 run left it.
    """
    settings = profile(config, tempo.demain or tempo.aujourdhui)
    if tempo.periode is Periode.HP:
        settings = {SOC: settings[SOC]}
    elif tempo.demain is None:
        del settings[SOC]
    if config.relais:
        due = config.relais_debut <= f"{now:%H:%M}" < config.relais_fin and tempo.aujourdhui in config.relais_couleurs
        settings[RELAYS[config.relais - 1]] = int(due)
    return settings


def changes(target: Mapping[Setting, int], values: Values) -> dict[Setting, int]:
    """What is to be written: what the GX answered for and holds otherwise, except against its owner's choice."""
    left_alone = {BATTERY_LIFE} if owners_choice(values) else set()
    return {
        setting: value
        for setting, value in target.items()
        if setting in values and setting not in left_alone and not agrees(setting, values[setting], value)
    }


class Fate(StrEnum):
    """What became of one setting in this run."""

    KEPT = "déjà en place"
    CONFIRMED = "confirmé"
    PUBLISHED = "publié, non confirmé"
    REFUSED = "refusé par le GX"
    PENDING = "non écrit"
    MUTE = "pas de réponse"
    OWNERS = "laissé tel quel"


class Outcome(NamedTuple):
    """One setting of the target, what became of it, and the line that says so."""

    setting: Setting
    target: int
    fate: Fate
    line: str


def outcome(setting: Setting, target: int, before: Values, after: Values, written: Collection[Setting]) -> Outcome:
    """What the first and the last answers of a run say of one setting."""
    last, wrote = after.get(setting), setting in written
    first, goal, held = ("?" if value is None else setting.text(value) for value in (before.get(setting), target, last))
    step = f"{first} -> {goal}"
    if last is None:
        fate = Fate.PUBLISHED if wrote else Fate.MUTE
    elif setting is BATTERY_LIFE and not wrote and owners_choice(after):
        fate, step = Fate.OWNERS, held
    elif agrees(setting, last, target):
        fate, step = (Fate.CONFIRMED, step) if wrote else (Fate.KEPT, held)
    else:
        fate = Fate.REFUSED if wrote else Fate.PENDING
    stays = f", reste à {held}" if fate is Fate.REFUSED else ""
    return Outcome(setting, target, fate, f"{setting.label} : {step}, {fate}{stays}")


def left_with(outcomes: Iterable[Outcome]) -> str:
    """What a failed run leaves on the GX."""
    touched = [one for one in outcomes if one.fate in (Fate.CONFIRMED, Fate.PUBLISHED, Fate.REFUSED)]
    return " ; ".join(one.line for one in outcomes) if touched else "rien n'a été écrit, le GX garde ses réglages"


def change_notice(tempo: Tempo, config: Config, outcomes: Iterable[Outcome]) -> str:
    """The push for a change of colour, claiming only what was confirmed; empty when none is due."""
    if tempo.demain is None or tempo.demain is tempo.aujourdhui:
        return ""
    plan = profile(config, tempo.demain)
    ours = [one for one in outcomes if one.setting in plan]
    changed = [one for one in ours if one.fate in (Fate.CONFIRMED, Fate.PUBLISHED)]
    unsure = any(one.fate is Fate.PUBLISHED for one in ours)
    if tempo.periode is Periode.HP:
        charge, floor, life = (setting.text(value) for setting, value in plan.items())
        sure = Fate.PUBLISHED if unsure else "confirmée"
        return f"Demain {tempo.demain} : charge {charge} ({sure}) ; à 22 h MinSoc {floor}, BatteryLife {life}"
    if not changed:
        return ""
    held = [one for one in ours if one in changed or (one.fate is Fate.KEPT and one.setting is not SOC)]
    names = {SOC: "charge"}
    told = ", ".join(f"{names.get(one.setting, one.setting.label)} {one.setting.text(one.target)}" for one in held)
    sure = Fate.PUBLISHED if unsure else "confirmés" if len(held) > 1 else "confirmé"
    left = f" ; BatteryLife {Fate.OWNERS}" if any(one.fate is Fate.OWNERS for one in ours) else ""
    return f"Demain {tempo.demain}{'' if unsure else ', prêt'} : {told} ({sure}){left}"


# ---- Colours -------------------------------------------------------------------------------------

PTEC = {"JB": Couleur.BLEU, "JW": Couleur.BLANC, "JR": Couleur.ROUGE}
DEMAIN = {"BLEU": Couleur.BLEU, "BLAN": Couleur.BLANC, "ROUG": Couleur.ROUGE}  # 4 characters [Enedis NOI-CPT_54E]
CONTRATS = {"TH..": "Base", "HC..": "heures creuses", "HP..": "heures creuses", "HN..": "EJP", "PM..": "EJP"}


def http_get(url: str, timeout: float, lan: bool, auth: AuthBase | None) -> tuple[int, bytes]:
    """Status and body of url, no redirect followed; OSError or ValueError when the peer fails.

    timeout: seconds, for each socket operation. lan: the environment's proxies and netrc do not count.
    """

    def disarm(response: requests.Response, **_: object) -> None:
        response.headers.pop("Location", None)  # else requests reads all of a redirect's body, followed or not
        response.raw.headers.pop("Content-Encoding", None)  # what unpacks to nothing would be read without end

    with requests.Session() as session:
        session.trust_env, session.headers["Accept-Encoding"] = not lan, "identity"
        session.hooks["response"].append(disarm)
        with session.get(url, auth=auth, timeout=timeout, stream=True, allow_redirects=False) as response:
            body = b""
            for chunk in response.iter_content(4096) if response.status_code == 200 else ():
                body += chunk
                if len(body) >= MAX_BODY:
                    break
            return response.status_code, body


def fetch(url: str, deadline: float, timeout: float, lan: bool = False, auth: AuthBase | None = None) -> dict[str, Any]:
    """The JSON object at url, got before deadline (monotonic clock); NoAnswer for anything else."""
    log.debug("HTTP GET %s", url)
    try:
        status, body = bounded(deadline - time.monotonic(), lambda: http_get(url, timeout, lan, auth))
        log.debug("HTTP %d, %d octets", status, len(body))
        if status == 200:
            return json_object(body)
    except (OSError, ValueError) as error:
        raise NoAnswer(Exit.COLOUR, why(error), again=True) from None
    raise NoAnswer(Exit.COLOUR, f"réponse HTTP {status}", again=status >= 500)


def parse_ecodevice(answer: Mapping[str, object], ecoinput: int) -> Tempo:
    """The colours and the period in an EcoDevice v1's answer.

    NoAnswer when PTEC is no code (---- is an unplugged téléinfo), Failure for another contract.
    A DEMAIN that is not exactly a colour is not announced: never BLEU, never a guess.
    """
    ptec, demain = (str(answer.get(f"T{ecoinput}_{field}")) for field in ("PTEC", "DEMAIN"))
    if ptec in CONTRATS:
        contract = f"le compteur n'est pas en TEMPO, son contrat est {CONTRATS[ptec]} (PTEC {ptec})"
        raise Failure(Exit.COLOUR, f"{contract} : vérifiez l'abonnement, ou ecoinput dans secret.py")
    if ptec[:2] not in set(Periode) or ptec[2:] not in PTEC:
        raise NoAnswer(Exit.COLOUR, f"pas de code TEMPO, PTEC {shown(ptec)} (téléinfo débranchée ?)")
    return Tempo(PTEC[ptec[2:]], DEMAIN.get(demain), Periode(ptec[:2]))


def ask_ecodevice(config: Config) -> Tempo:
    """The colours and the period from the meter, in three tries; NoAnswer or Failure."""
    deadline = time.monotonic() + LIMITS["EcoDevice"]
    url = f"http://{config.ecodevice}/api/xdevices.json?cmd=10"
    both = config.ecouser and config.ecopassword
    auth = HTTPBasicAuth(config.ecouser.encode(), config.ecopassword.encode()) if both else None
    tries = 3
    while True:
        try:
            return parse_ecodevice(fetch(url, deadline, PACE["EcoDevice try"], True, auth), config.ecoinput)
        except NoAnswer as failure:
            tries -= 1
            if not failure.again or not tries or time.monotonic() + PACE["EcoDevice pause"] >= deadline:
                raise NoAnswer(failure.code, f"EcoDevice ({config.ecodevice}) : {failure}") from None
        time.sleep(PACE["EcoDevice pause"])


def parse_rte(answer: Mapping[str, Any], day: date) -> Couleur | None:
    """What RTE's tempoLight says of this date; its -fallback keys are not asked for."""
    values = answer.get("values")
    code = values.get(str(day)) if isinstance(values, dict) else None
    codes = {"BLUE": Couleur.BLEU, "WHITE": Couleur.BLANC, "RED": Couleur.ROUGE}
    return codes.get(str(code))


def parse_api(answer: Mapping[str, Any], day: date) -> Couleur | None:
    """What api-couleur-tempo.fr says, if it is about this date; 0 is "unknown"."""
    code = answer.get("codeJour") if answer.get("dateJour") == str(day) else None
    return {1: Couleur.BLEU, 2: Couleur.BLANC, 3: Couleur.ROUGE}.get(code) if type(code) is int else None


# Asked in this order, keyed by the civil date on which the TEMPO day starts.
WEB: dict[str, tuple[str, Callable[[Mapping[str, Any], date], Couleur | None]]] = {
    "RTE": ("https://www.services-rte.com/cms/open_data/v1/tempoLight", parse_rte),
    "api-couleur-tempo.fr": ("https://www.api-couleur-tempo.fr/api/jourTempo/{}", parse_api),
}


def ask_web(source: str, days: Mapping[str, date]) -> tuple[dict[str, Couleur], str]:
    """The colours of those of these days that the source knows, and why it does not know the others."""
    address, parse = WEB[source]
    deadline = time.monotonic() + LIMITS[source]
    get = cache(lambda url: fetch(url, deadline, LIMITS[source]))
    known: dict[str, Couleur] = {}
    try:
        for name, day in days.items():
            if couleur := parse(get(address.format(day)), day):
                known[name] = couleur
    except NoAnswer as failure:
        return known, str(failure)
    return known, "" if known.keys() == days.keys() else "ne sait pas"


Facts = dict[str, tuple[Any, str]]  # by Tempo's field: the value and its source


def sourced(source: str, found: Mapping[str, object]) -> Facts:
    """What this source has found, as facts."""
    return {name: (value, source) for name, value in found.items() if value is not None}


def gather(imposed: Mapping[str, object], config: Config, now: datetime) -> Facts:
    """The evening's facts: what the owner imposes, else what the EcoDevice says, else the web.

    Failure when nobody knows today's colour, or the meter's contract is another.
    """
    facts = sourced("imposé", imposed)
    if facts.keys() >= {"aujourdhui", "periode"}:
        return facts
    silent: list[str] = []
    if config.use_eco:
        try:
            facts = sourced("EcoDevice", ask_ecodevice(config)._asdict()) | facts
        except NoAnswer as failure:
            silent.append(str(failure))
            log.warning("%s%s", failure, ", couleurs demandées au web" if config.use_api else "")
    for source in WEB if config.use_api else ():
        unknown = {name: day for name, day in known_days(now).items() if name not in facts}
        if unknown:
            found, reason = ask_web(source, unknown)
            facts |= sourced(source, found)
            if reason:
                silent.append(f"{source} : {reason}")
                log.info("%s", silent[-1])
    if "aujourdhui" not in facts:
        raise Failure(Exit.COLOUR, f"couleur du jour inconnue ({' ; '.join(silent)})")
    return sourced("horloge", {"periode": periode_at(now)}) | facts


def read_tempo(imposed: Mapping[str, object], config: Config, now: datetime) -> Tempo:
    """The colours and the period of this evening, said as they are found; Failure as gather has it."""
    facts = gather(imposed, config, now)
    today, demain, periode = (facts.get(name, (None, ""))[0] for name in Tempo._fields)
    tempo = Tempo(Couleur(today), demain and Couleur(demain), Periode(periode))
    tell_tempo(tempo, {name: source for name, (_, source) in facts.items()}, now)
    return tempo


def tell_tempo(tempo: Tempo, sources: Mapping[str, str], now: datetime) -> None:
    """Say the colours, where they come from, and what the owner should know of them."""
    told = (f"{LABELS[name]} {getattr(tempo, name)} ({sources[name]})" for name in Tempo._fields if name in sources)
    log.info("TEMPO : %s", ", ".join(told))
    if tempo.demain is None:
        costly = tempo.periode is Periode.HC and tempo.aujourdhui is not Couleur.BLEU
        log.log(logging.WARNING if costly else logging.INFO, "couleur de demain non annoncée, on garde celle du jour")
    match sources["periode"], tempo.periode, periode_at(now):
        case "EcoDevice", Periode.HP, Periode.HC:
            log.warning("le compteur est encore en HP : déplacez la seconde ligne de crontab après son passage en HC")
        case "imposé", Periode.HC, Periode.HP:
            log.warning("HC imposé en pleines HP : une recharge au prix fort peut commencer tout de suite")


# ---- GX session ----------------------------------------------------------------------------------


def answer_in(payload: bytes, kind: type) -> Value | None:
    """The value in an N/ message; None for what is no answer: empty, no JSON, no finite number (or no text)."""
    try:
        value: Any = json_object(payload).get("value")
    except ValueError:
        return None
    if kind is str:
        return value if isinstance(value, str) else None
    return value if type(value) in (int, float) and -1e300 < value < 1e300 else None


class Gx:
    """The MQTT session with the GX's broker: made again when it is lost, within LIMITS for the whole run."""

    def __init__(self, config: Config, patient: bool = True) -> None:
        """patient: as long as LIMITS lets a run be; else one try and a short Read, for --check."""
        self.config, self.serial, self.patient = config, config.gxsn, patient
        self.left = LIMITS | ({} if patient else {"read": PACE["answer"]})  # seconds that remain of each limit
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)  # not connected yet
        self.connack: Any = None
        self.trouble = ""  # why the last try failed; empty as long as none was refused or cut
        self.topics: dict[str, Setting] = {}
        self.values: dict[Setting, Value] = {}  # answers since the last start of Read, or the last write
        self.before: dict[Setting, Value] = {}  # first answers of the run
        self.written: set[Setting] = set()
        self.serials: set[str] = set()  # announced by this broker
        self.alive = False  # an N/<sn>/ message came: a real GX

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect in order, so that what was published is on the wire before the socket closes."""
        with suppress(ConnectionError), self._phase("close") as deadline:
            self.client.disconnect()
            self._wait(lambda: self.client.socket() is None, deadline)

    def connect(self) -> None:
        """Try until CONNACK; Failure when the time is up, at once for a refused login or certificate."""
        with self._phase("connect") as deadline:
            while True:
                if self.trouble:
                    if not self.patient or time.monotonic() + PACE["connect pause"] >= deadline:
                        where = f"{self.config.gx}:{self.config.gxport}"
                        raise self._failure(f"GX injoignable ({where}, {self.trouble}) : est-il allumé, MQTT activé ?")
                    log.info("GX : %s, nouvel essai dans %g s", self.trouble, PACE["connect pause"])
                    time.sleep(PACE["connect pause"])
                try:
                    return self._try(min(deadline, time.monotonic() + PACE["connect try"]))
                except ssl.SSLCertVerificationError as error:
                    dates = "hors de ses dates : vérifiez l'heure ici et sur le GX"
                    other = "un autre que gxcert : si le GX a été réinstallé, reprenez-le par openssl s_client"
                    out_of_dates = error.verify_code in (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED
                    raise self._failure(f"le certificat du GX est {dates if out_of_dates else other}") from None
                except (OSError, ValueError) as error:
                    self.trouble = why(error)

    def _try(self, deadline: float) -> None:
        """One try, to CONNACK: OSError or ValueError when the way is barred, Failure for a refused login."""
        config, self.connack = self.config, None
        name = f"tempo_ess-{uuid4().hex[:12]}"  # no second run shares it
        client = mqtt.Client(CallbackAPIVersion.VERSION2, name, clean_session=True, reconnect_on_failure=False)
        client.on_connect = lambda *args: setattr(self, "connack", args[3])
        client.on_message = self._on_message
        # Without it Nagle's algorithm holds an R/ that follows a W/ back for 40 ms.
        client.on_socket_open = lambda *args: args[2].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if config.gxpassword:
            client.username_pw_set("tempo_ess", config.gxpassword)  # any name does, but an empty one up to Venus 3.31
        if config.gxtls:
            client.tls_set_context(pinned_context(config.gxcert))
        client.connect_timeout = PACE["connect try"]
        bounded(deadline - time.monotonic(), lambda: client.connect(config.gx, config.gxport, keepalive=15))
        self.client = client
        if not self._wait(lambda: self.connack is not None, deadline):
            raise TimeoutError
        if self.connack in ("Bad user name or password", "Not authorized"):
            advice = "vérifiez gxpassword" if config.gxpassword else "il veut un mot de passe, gxpassword,"
            raise self._failure(f"le GX refuse la connexion : {advice} dans secret.py")
        if self.connack.is_failure:
            raise ConnectionRefusedError

    def _on_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        """Take in what an N/ message says; a retained one (old Venus) or an empty one is no answer."""
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        known = topic if topic in self.topics else shown(topic)
        log.debug("MQTT <- %s %s", known, shown(message.payload.decode(errors="replace")))
        kind, serial, path = [*topic.split("/", 2), "", ""][:3]
        self.alive |= kind == "N" and serial == self.serial
        if path == "system/0/Serial" and serial.isalnum():
            self.serials.add(serial)
        setting = None if message.retain else self.topics.get(topic)
        if setting and (value := answer_in(bytes(message.payload), setting.type)) is not None:
            self.values[setting] = value
            self.before.setdefault(setting, value)

    @contextmanager
    def _phase(self, name: str) -> Iterator[float]:
        """The monotonic time at which this limit runs out; what is used of it is gone for the run."""
        deadline = time.monotonic() + self.left[name]
        try:
            yield deadline
        finally:
            self.left[name] = deadline - time.monotonic()

    def _wait(self, done: Callable[[], bool], deadline: float) -> bool:
        """Serve the connection until done() or the deadline; ConnectionError when it is lost."""
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            try:
                lost = self.client.loop(left) != mqtt.MQTT_ERR_SUCCESS
            except (struct.error, LookupError):  # paho-mqtt 2.1, from a malformed packet
                lost = True
            if lost and not done():
                raise ConnectionResetError
        return True

    def _publish(self, kind: str, setting: Setting, payload: str = "") -> None:
        """R/ or W/; ConnectionError when the connection is lost."""
        topic = f"{kind}/{self.serial}/{setting.path}"
        log.debug("MQTT -> %s %s", topic, payload)
        if self.client.publish(topic, payload, qos=0, retain=False).rc:
            raise ConnectionResetError

    def _ask(self, missing: Callable[[], Collection[Setting]], deadline: float) -> None:
        """R/ for what is missing, again each second, until nothing is or the deadline."""
        while (settings := missing()) and time.monotonic() < deadline:
            for setting in settings:
                self._publish("R", setting)
            self._wait(lambda: not missing(), min(deadline, time.monotonic() + PACE["ask again"]))

    @property
    def starting(self) -> bool:
        """A real GX is there, or one may be on its way up: its settings can still answer."""
        return self.alive or bool(self.trouble and not self.serials)

    def read(self, needed: Collection[Setting], optional: Collection[Setting]) -> None:
        """Ask for these settings: 5 s, or what is left of 60 s when a GX is there or may be on its way up.

        What is optional is asked for as long, and waited for 1 s more. ConnectionError when the connection is lost.
        """
        self.values.clear()
        self.topics = {f"N/{self.serial}/{setting.path}": setting for setting in (*optional, *needed)}
        self.client.subscribe([(topic, 0) for topic in (*self.topics, "N/+/system/0/Serial")])

        def missing(wanted: Collection[Setting]) -> list[Setting]:
            return [setting for setting in wanted if setting not in self.values]

        def unanswered() -> list[Setting]:
            return missing(needed) and missing([*optional, *needed])

        with self._phase("read") as deadline:
            self._ask(unanswered, min(deadline, time.monotonic() + PACE["answer"]))
            if self.starting:
                self._ask(unanswered, deadline)
            if self.values:
                self._ask(lambda: missing(optional), min(deadline, time.monotonic() + PACE["read only"]))

    def write(self, settings: Mapping[Setting, int]) -> None:
        """W/ for these settings: QoS 0 and not retained, since FlashMQ runs any other a second time later."""
        for setting, value in settings.items():
            self.written.add(setting)
            self.values.pop(setting, None)
            self._publish("W", setting, json.dumps({"value": value}, separators=(",", ":")))

    def apply(self, settings: Mapping[Setting, int]) -> None:
        """Write, and ask until the GX shows it, 5 s; once more for what it did not take."""

        def wrong() -> dict[Setting, int]:
            return {one: value for one, value in settings.items() if not agrees(one, self.values.get(one), value)}

        for _ in range(2):
            self.write(wrong())
            with self._phase("confirm") as deadline:
                self._ask(wrong, min(deadline, time.monotonic() + PACE["answer"]))

    def _failure(self, text: str) -> Failure:
        """Exit 4 as long as nothing was published, else 5."""
        return Failure(Exit.UNCONFIRMED if self.written else Exit.GX, text)


def settle(
    gx: Gx, target: Mapping[Setting, int], optional: Collection[Setting], *, dry_run: bool, blindly: bool
) -> None:
    """Read, compare, write, confirm; blindly: write, and no more. A lost connection starts again at Read.

    Failure when the GX is out of reach or nothing answers; else gx says what was read and written.
    """
    while True:
        try:
            gx.connect()
            if blindly and not dry_run:
                return gx.write(target)
            gx.read(target, optional)
            if not gx.values.keys() & target.keys():
                return settle_unanswered(gx, target, dry_run)
            return None if dry_run else gx.apply(changes(target, gx.values))
        except ConnectionError as error:
            gx.trouble = why(error)
            # What a written setting showed before the loss may be a late answer to an older question.
            for setting in gx.written & gx.values.keys():
                if not agrees(setting, gx.values[setting], target[setting]):
                    del gx.values[setting]


def settle_unanswered(gx: Gx, target: Mapping[Setting, int], dry_run: bool) -> None:
    """No setting answered: Failure for a GX that is not up, another GX and, after the writes, a test broker."""
    if gx.starting:
        raise Failure(Exit.UNCONFIRMED, "le GX est là mais ses réglages ne répondent pas : redémarre-t-il ?")
    if gx.serials:
        seen = ", ".join(map(shown, sorted(gx.serials)[:4]))
        raise Failure(Exit.UNCONFIRMED, f"gxsn = {gx.serial} n'est pas ce GX, qui annonce {seen} : corrigez secret.py")
    if not dry_run:
        gx.write(target)
        raise Failure(Exit.UNCONFIRMED, "aucun GX sur ce broker, rien n'est confirmé (broker de test : --no-confirm)")
    log.info("aucun GX sur ce broker (broker de test ?)")


# ---- Notification --------------------------------------------------------------------------------


def prowl(key: str, call: Callable[[pyprowl.Prowl], object]) -> str:
    """Call Prowl, bounded; empty when it agrees, else why not, without its own texts: they can hold the key."""
    log.debug("HTTP POST api.prowlapp.com")
    try:
        bounded(LIMITS["Prowl"], lambda: call(pyprowl.Prowl(key, "tempo_ess")))
    except Exception as error:  # pyprowl raises bare Exception, KeyError("'503'"), XML's errors and requests' own
        status = re.match(r"\W?(\d{3})\b", str(error))
        return f"réponse {status[1]}" if status else why(error)
    return ""


def push(config: Config, text: str, priority: int) -> None:
    """Send a notification if there is a key; a failure is a warning and never changes the verdict."""
    if config.prowlkey:
        trouble = prowl(config.prowlkey, lambda service: service.notify("EDF TEMPO", text, priority))
        if trouble:
            log.warning("notification non envoyée (Prowl : %s) : %s", trouble, text)
        else:
            log.info("notification : %s", text)


# ---- --check -------------------------------------------------------------------------------------

Row = tuple[int, str, str, Exit]  # logging level (INFO is OK), subject, what was read or what to do, exit code
OK, ATTENTION, ERREUR = logging.INFO, logging.WARNING, logging.ERROR
ESS = "Settings > ESS"
MENU = f"{ESS} > Scheduled charge levels > Schedule 1"
START = Setting(SCHEDULE + "Start", "Schedule 1 Start", lambda v: f"{v // 3600:02g}:{v % 3600 // 60:02g}")
DURATION = Setting(SCHEDULE + "Duration", "Schedule 1 Duration", lambda v: f"{v / 3600:g} h")
ALLOW_DISCHARGE = Setting(SCHEDULE + "AllowDischarge", "Schedule 1 Discharge", named({0: "PV", 1: "PV & Battery"}))
DYNAMIC_ESS = Setting("settings/0/Settings/DynamicEss/Mode", "Dynamic ESS", named({0: "Off"}))
TIME_ZONE = Setting("settings/0/Settings/System/TimeZone", "fuseau du GX", shown, str)
MANUAL = named({2: "Manual"})
FUNCTIONS = [Setting(f"settings/0/Settings/Relay/{n}Function", "fonction relais", MANUAL) for n in ("", "1/")]
CHECKS: list[tuple[Setting, Callable[[Any], bool], str]] = [  # what is right, and where to put it right
    (HUB4_MODE, lambda v: v != EXTERNAL_CONTROL, f"BatteryLife n'est pas réglé : {ESS} > Mode"),
    (BATTERY_LIFE, lambda v: v != 9, f"bloque la charge programmée : {ESS} > Mode"),
    (MIN_SOC, lambda _: True, ""),
    (SOC, lambda _: True, ""),
    (DAY, lambda v: v == 7, f"Schedule 1 inactif ou pas tous les jours : {MENU} > Day, Every day"),
    (START, lambda v: v == 79200, f"il faut 22:00 : {MENU} > Start time"),
    (DURATION, lambda v: v == 28800, f"il faut 8 h : {MENU} > Duration"),
    (ALLOW_DISCHARGE, lambda v: v != 1, f"il faut PV : {MENU} > Self-consumption above limit"),
    (DYNAMIC_ESS, lambda v: v == 0, f"bloque la charge programmée : {ESS} > Dynamic ESS, Off"),
    (TIME_ZONE, lambda v: v == "Europe/Paris", "décale la charge : Settings > Date & Time > Time zone, Europe/Paris"),
]


def check_colours(config: Config, now: datetime) -> Iterator[Row]:
    """The sources' lines; an error where a run would end with exit 3."""
    known = False
    if config.use_eco and config.ecodevice:
        try:
            tempo = ask_ecodevice(config)
        except Failure as failure:
            known = not (isinstance(failure, NoAnswer) and config.use_api)  # an error, so no second one below
            yield ERREUR if known else ATTENTION, "EcoDevice", f"{failure} ; vérifiez-le", Exit.COLOUR
        else:
            known = True
            late = tempo.demain is None and not 6 <= now.hour < 20
            text = f"PTEC {tempo.aujourdhui} en {tempo.periode}, DEMAIN {tempo.demain or 'non annoncé'}"
            yield ATTENTION if late else OK, "EcoDevice", text, Exit.OK
    for source in WEB if config.use_api else ():
        found, reason = ask_web(source, known_days(now))
        known |= "aujourdhui" in found
        text = ", ".join(f"{LABELS[day]} {couleur}" for day, couleur in found.items())
        yield OK if found else ATTENTION, source, text or f"{reason} : rien à faire si une autre source répond", Exit.OK
    if not known:
        yield ERREUR, "couleur du jour", "aucune source ne la donne : rien ne serait réglé", Exit.COLOUR


def check_gx(config: Config) -> Iterator[Row]:
    """The GX's lines, read under the serial that it announces when gxsn is missing or another."""
    manual = f"il faut Manual : Settings > Relay > Function (Relay {config.relais})"
    checks = CHECKS.copy()
    if config.relais:
        checks += [(RELAYS[config.relais - 1], lambda _: True, "")]
        checks += [(FUNCTIONS[config.relais - 1], lambda v: v == 2, manual)]
    settings = [setting for setting, _, _ in checks]
    try:
        with Gx(config, patient=False) as gx:
            gx.connect()
            gx.read(settings, ())
            if gx.serials and not gx.alive:
                gx.serial, gx.left["read"] = min(gx.serials), PACE["answer"]
                yield ERREUR, "gxsn", f"ce GX annonce {shown(gx.serial)} : à mettre dans secret.py", Exit.UNCONFIRMED
                gx.read(settings, ())
    except (Failure, ConnectionError) as error:
        return (yield ERREUR, "GX", str(error) if isinstance(error, Failure) else why(error), Exit.GX)
    yield OK, "GX", f"broker joint à {config.gx}:{config.gxport}", Exit.OK
    if not gx.values:
        yield ERREUR, "réglages du GX", "aucun ne répond : broker de test, ou GX qui redémarre ?", Exit.UNCONFIRMED
    for setting, right, advice in checks if gx.values else ():
        value = gx.values.get(setting)
        if value is None:
            needed = setting in (SOC, MIN_SOC, BATTERY_LIFE, *RELAYS)  # without which a run ends with exit 5
            yield ERREUR if needed else ATTENTION, setting.label, "non lisible", Exit.UNCONFIRMED
        else:
            text = setting.text(value) if right(value) else f"{setting.text(value)}, {advice}"
            yield OK if right(value) else ATTENTION, setting.label, text, Exit.OK


def check(path: Path, now: datetime) -> Iterator[Row]:
    """The lines of --check, past every error."""
    try:
        config, problems, hints = examine(path)
    except Failure as failure:
        return (yield ERREUR, "secret.py", str(failure), failure.code)
    if path.stat().st_mode & stat.S_IROTH:
        hints.append(f"lisible par tous : chmod 600 {path}")
    if not problems and not hints:
        yield OK, "secret.py", str(path), Exit.OK
    yield from ((ERREUR, "secret.py", text, Exit.USAGE) for text in problems)
    yield from ((ATTENTION, "secret.py", text, Exit.OK) for text in hints)
    yield from check_colours(config, now)
    if config.gx and not any(text.startswith("gxcert") for text in problems):
        yield from check_gx(config)
    if config.prowlkey:
        trouble = prowl(config.prowlkey, lambda service: service.verify_key())
        text = f"{trouble} : vérifiez prowlkey" if trouble else "clé acceptée"
        yield ATTENTION if trouble else OK, "Prowl", text, Exit.OK


def print_check(path: Path, now: datetime, quiet: bool) -> Exit:
    """The table on stdout (with quiet what is not OK, on stderr); the exit code of a run for its first error."""
    code = Exit.OK
    words = {OK: ("OK", 32), ATTENTION: ("attention", 33), ERREUR: ("erreur", 31)}
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for level, subject, text, exit_code in check(path, now):
        word = f"{words[level][0]:<9}"
        word = f"\x1b[{words[level][1]}m{word}\x1b[0m" if colour else word
        log.log(level if quiet else OK, "%s  %-20s  %s", word, subject, text)
        if level == ERREUR:
            code = code or exit_code
    return code


# ---- Program -------------------------------------------------------------------------------------


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; Failure when it is wrong."""
    shape: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "add_help": False}
    parser = argparse.ArgumentParser("tempo_ess.py", None, __doc__, allow_abbrev=False, exit_on_error=False, **shape)
    add = parser.add_argument
    way, volume = parser.add_mutually_exclusive_group().add_argument, parser.add_mutually_exclusive_group().add_argument
    flag: dict[str, Any] = {"action": "store_true"}
    couleur: dict[str, Any] = {"metavar": "C", "type": str.upper, "choices": [*map(str, Couleur)]}
    periode = couleur | {"metavar": "HP|HC", "choices": [*map(str, Periode)]}
    secret = Path(__file__).with_name("secret.py")
    add("--config", metavar="FICHIER", type=Path, default=secret, help="configuration, sinon secret.py près du script")
    way("--dry-run", **flag, help="lit tout, montre ce qui changerait, n'écrit rien")
    way("--check", **flag, help="contrôle toute l'installation, n'écrit rien")
    add("--today", **couleur, help="impose la couleur du jour : bleu, blanc ou rouge")
    add("--tomorrow", **couleur, help="impose la couleur de demain")
    add("--period", **periode, help="impose la période")
    add("--no-confirm", **flag, help="publie sans lire ni confirmer : pour un broker de test")
    add("--no-notify", **flag, help="n'envoie pas de notification")
    volume("--quiet", **flag, help="ne dit que les avertissements et les erreurs")
    volume("--verbose", **flag, help="dit aussi chaque requête HTTP et chaque message MQTT")
    add("--version", action="version", version=f"tempo_ess {__version__}", help="dit la version")
    add("-h", "--help", action="help", help="dit ceci")
    try:
        options, unknown = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        slip = "valeur absente ou inconnue, ou option qui en exclut une autre (voir --help)"
        raise Failure(Exit.USAGE, f"{error.argument_name} : {slip}") from None
    if unknown:
        raise Failure(Exit.USAGE, f"option inconnue : {unknown[0]} (voir --help)")
    return options


def verdict(outcomes: Iterable[Outcome], options: argparse.Namespace) -> str:
    """What keeps the run from exit 0 among what became of the settings; empty when nothing does."""
    fine = {Fate.PENDING} if options.dry_run else {Fate.PUBLISHED} if options.no_confirm else set()
    stuck = [one for one in outcomes if one.fate not in {Fate.KEPT, Fate.CONFIRMED, Fate.OWNERS, *fine}]
    mute = ", ".join(one.setting.label for one in stuck if one.fate is Fate.MUTE)
    rest = ", ".join(one.setting.label for one in stuck if one.fate is not Fate.MUTE)
    told = (mute and f"le GX ne répond pas pour {mute}", rest and f"le GX ne confirme pas {rest}")
    return " ; ".join(filter(None, told))


def report(gx: Gx, target: Mapping[Setting, int]) -> tuple[list[Outcome], str]:
    """Say what became of each setting; the remark on an inactive Schedule 1, else an empty one."""
    outcomes = [outcome(setting, value, gx.before, gx.values, gx.written) for setting, value in target.items()]
    for one in outcomes:
        log.info(one.line)
    if BATTERY_LIFE in target and owners_choice(gx.values):
        log.warning("%s : BatteryLife est %s", owners_choice(gx.values), Fate.OWNERS)
    if float(gx.values.get(DAY, 0)) >= 0:
        return outcomes, ""
    inactive = "Schedule 1 inactif : pas de recharge programmée"
    log.info(inactive)
    return outcomes, inactive


def run(options: argparse.Namespace, config: Config, now: datetime) -> tuple[str, int]:
    """The evening, in one straight line; text and priority of its push. Failure unless the GX is as wanted."""
    imposed = {"aujourdhui": options.today, "demain": options.tomorrow, "periode": options.period}
    try:
        tempo = read_tempo(imposed, config, now)
    except Failure as unknown:
        raise Failure(unknown.code, f"{unknown} ; {left_with([])}") from None
    target = target_settings(tempo, config, now)
    read_only = [HUB4_MODE, DAY] if tempo.periode is Periode.HC else [DAY]
    gx, failure = Gx(config), None
    try:
        with gx:
            settle(gx, target, read_only, dry_run=options.dry_run, blindly=options.no_confirm)
    except Failure as error:
        failure = error
    outcomes, inactive = report(gx, target)
    if not failure and (gx.values or not options.dry_run) and (trouble := verdict(outcomes, options)):
        failure = Failure(Exit.UNCONFIRMED, trouble)
    if failure:
        eve = f"demain {tempo.demain} : " if tempo.demain not in (None, tempo.aujourdhui) else ""
        raise Failure(failure.code, eve + " ; ".join(filter(None, (str(failure), left_with(outcomes), inactive))))
    notice = change_notice(tempo, config, outcomes)
    return f"{notice}. {inactive}" if notice and inactive else notice, int(tempo.demain is Couleur.ROUGE)


def run_and_tell(options: argparse.Namespace, config: Config, now: datetime) -> None:
    """The run and its push, whatever its end."""
    if options.dry_run or options.no_notify:
        config = config._replace(prowlkey="")
    try:
        text, priority = run(options, config, now)
    except Failure as failure:
        push(config, f"Échec (code {failure.code}) : {failure}", 1)
        raise
    except Exception:
        push(config, f"Échec (code {Exit.BUG}) : bogue du script, le GX est peut-être à moitié réglé", 1)
        raise
    if text:
        push(config, text, priority)


def open_output(quiet: bool, verbose: bool) -> None:
    """Information to stdout, the rest to stderr; what cannot be written is dropped, and never stops a run."""
    logging.raiseExceptions = False
    sys.stdout, sys.stderr = (stream or io.StringIO() for stream in (sys.stdout, sys.stderr))  # None when closed
    out, err = logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr)
    out.addFilter(lambda record: not quiet and record.levelno < logging.WARNING)
    err.setLevel(logging.WARNING)
    err.setFormatter(logging.Formatter("%(levelname)s : %(message)s"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    for level, word in ((logging.WARNING, "attention"), (logging.ERROR, "erreur")):
        logging.addLevelName(level, word)
    log.handlers[:] = [out, err]
    log.setLevel(logging.DEBUG if verbose else logging.INFO)


def close_output() -> None:
    """Flush here: Python would turn a full disk or a closed pipe into exit code 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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
    finally:
        close_output()


if __name__ == "__main__":
    raise SystemExit(main())
