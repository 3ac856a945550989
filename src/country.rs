//! A country as lists and rules name it: two letters that the numbering plan knows.

use std::{fmt, str::FromStr};

use rlibphonenumber::{PHONE_NUMBER_UTIL, Region};
use serde::{Deserialize, Serialize};

/// A country or territory with a telephone numbering plan, by its ISO 3166-1 code, e.g. `US`.
/// Also the two codes that libphonenumber adds: `AC` (Ascension) and `XK` (Kosovo).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "US")]
pub struct Country(Region);

/// The text is not the code of a country with a numbering plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Use the two capital letters of a country (ISO 3166), such as US or DE.")]
pub struct UnknownCountry;

impl Country {
    /// The country of a region, unless the region is the whole world ("001") or has no numbers.
    pub(crate) fn of(region: Region) -> Option<Self> {
        let has_numbers = PHONE_NUMBER_UTIL.get_country_code_for_region(region).is_some();
        (has_numbers && region != Region::World).then_some(Self(region))
    }

    /// The region as the numbering rules know it.
    pub(crate) fn region(self) -> Region {
        self.0
    }
}

impl FromStr for Country {
    type Err = UnknownCountry;

    /// Capital letters only, so that one country has one spelling wherever it is stored.
    fn from_str(text: &str) -> Result<Self, UnknownCountry> {
        if !text.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(UnknownCountry);
        }
        Region::from_code(text).ok().and_then(Self::of).ok_or(UnknownCountry)
    }
}

impl TryFrom<String> for Country {
    type Error = UnknownCountry;

    fn try_from(text: String) -> Result<Self, UnknownCountry> {
        text.parse()
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.to_string()
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_capital_codes_with_a_numbering_plan_are_countries() {
        for known in ["US", "DE", "GB", "XK", "AC", "TA"] {
            assert_eq!(known.parse::<Country>().unwrap().to_string(), known);
        }
        for unknown in ["", "us", "USA", "001", "ZZ", "AQ", "Ü", "U\0", "1A"] {
            assert_eq!(unknown.parse::<Country>(), Err(UnknownCountry), "{unknown:?}");
        }
    }
}
