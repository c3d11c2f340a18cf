"""The languages that Whisper knows."""

from __future__ import annotations

from speechprune_cli.errors import UsageError, nearest

TABLE = """
en=english, zh=chinese, de=german, es=spanish, ru=russian, ko=korean, fr=french, ja=japanese,
pt=portuguese, tr=turkish, pl=polish, ca=catalan, nl=dutch, ar=arabic, sv=swedish, it=italian,
id=indonesian, hi=hindi, fi=finnish, vi=vietnamese, he=hebrew, uk=ukrainian, el=greek, ms=malay,
cs=czech, ro=romanian, da=danish, hu=hungarian, ta=tamil, no=norwegian, th=thai, ur=urdu,
hr=croatian, bg=bulgarian, lt=lithuanian, la=latin, mi=maori, ml=malayalam, cy=welsh, sk=slovak,
te=telugu, fa=persian, lv=latvian, bn=bengali, sr=serbian, az=azerbaijani, sl=slovenian,
kn=kannada, et=estonian, mk=macedonian, br=breton, eu=basque, is=icelandic, hy=armenian,
ne=nepali, mn=mongolian, bs=bosnian, kk=kazakh, sq=albanian, sw=swahili, gl=galician, mr=marathi,
pa=punjabi, si=sinhala, km=khmer, sn=shona, yo=yoruba, so=somali, af=afrikaans, oc=occitan,
ka=georgian, be=belarusian, tg=tajik, sd=sindhi, gu=gujarati, am=amharic, yi=yiddish, lo=lao,
uz=uzbek, fo=faroese, ht=haitian creole, ps=pashto, tk=turkmen, nn=nynorsk, mt=maltese,
sa=sanskrit, lb=luxembourgish, my=myanmar, bo=tibetan, tl=tagalog, mg=malagasy, as=assamese,
tt=tatar, haw=hawaiian, ln=lingala, ha=hausa, ba=bashkir, jw=javanese, su=sundanese, yue=cantonese
"""
OTHERS = """
burmese=my, valencian=ca, flemish=nl, haitian=ht, letzeburgesch=lb, pushto=ps, panjabi=pa,
moldavian=ro, moldovan=ro, sinhalese=si, castilian=es, mandarin=zh
"""


def language_code(name: str) -> str:
    """`de` of `de`, `DE` or `German`. Raises UsageError, with the likest, for others."""
    asked = name.strip().lower()
    if asked in NAMES:
        return asked
    if asked in CODES:
        return CODES[asked]
    told = "give a code or an English name, such as de or German"
    raise UsageError(f"Whisper knows no language '{name}'{nearest(name, CODES)}: {told}")


def language_name(code: str) -> str:
    """`German` of `de`; the code itself where nobody knows it."""
    return NAMES.get(code, code).title()


def _pairs(table: str) -> dict[str, str]:
    pairs = (each.partition("=") for each in table.replace("\n", " ").split(", "))
    return {first.strip(): second.strip() for first, _, second in pairs}


NAMES = _pairs(TABLE)  # by code
CODES = {name: code for code, name in NAMES.items()} | _pairs(OTHERS)  # by name
