"""The register of territory that ships with the service."""

import unicodedata
from collections import Counter
from datetime import date

from services.enrollment.registers.handlers import TERRITORY_CSV, read_territory
from shared.contracts.topics import PROVINCE_CODES

UNITS = read_territory(TERRITORY_CSV)
BY_CODE = {unit.code: unit for unit in UNITS}


def test_there_are_34_provinces_and_3321_communes_with_codes_of_their_own() -> None:
    assert Counter(unit.level for unit in UNITS) == {"province": 34, "commune": 3321}
    assert len(BY_CODE) == len(UNITS)
    assert {unit.code for unit in UNITS if unit.level == "province"} == set(PROVINCE_CODES)


def test_the_types_are_those_in_force_since_30_april_2026() -> None:
    assert Counter(unit.type for unit in UNITS if unit.level == "commune") == {"Xã": 2611, "Phường": 697, "Đặc khu": 13}
    assert (BY_CODE["75"].type, BY_CODE["75"].valid_from) == ("Thành phố", date(2026, 4, 30))
    assert (BY_CODE["26368"].name, BY_CODE["26368"].type) == ("Long Thành", "Phường")


def test_codes_keep_their_zeros_and_communes_know_their_province() -> None:
    assert (BY_CODE["00004"].name, BY_CODE["00004"].province) == ("Ba Đình", "01")
    assert (BY_CODE["23377"].name, BY_CODE["23377"].province) == ("Bờ Y", "51")
    assert all(BY_CODE[unit.province].level == "province" for unit in UNITS)


def test_names_are_in_one_normal_form() -> None:
    assert all(unicodedata.is_normalized("NFC", unit.name) for unit in UNITS)
