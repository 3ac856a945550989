//! A telephone number as people write it, read into E.164 or refused with a reason.

use std::fmt;

use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL, ParseError, PhoneNumber, PhoneNumberFormat, PhoneNumberType, ValidationError,
};
use serde::{Deserialize, Serialize};

use super::emergency::is_emergency;
use crate::country::Country;

/// The longest text that is read as a number (bytes): what libphonenumber reads at most (`MAX_INPUT_STRING_LENGTH`).
pub const TEXT_MAX: usize = 250;

/// Country codes of satellite and other global networks (ITU-T E.164, assigned country codes): 870 Inmarsat,
/// 878 personal numbering, 881 and 882/883 satellite and international networks, 888 disaster relief.
const GLOBAL_NETWORKS: [i32; 6] = [870, 878, 881, 882, 883, 888];

/// International premium-rate service (ITU-T E.169.2).
const GLOBAL_PREMIUM: i32 = 979;

/// No public number is this short: the shortest national numbers have four digits, those of services up to six.
const SHORT_CODE_DIGITS: usize = 6;

/// A number in E.164: `+` and up to 15 digits. It prints masked, so that no log line shows a whole one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[sqlx(transparent)]
#[schema(value_type = String, example = "+12125550137")]
pub struct E164(String);

impl E164 {
    /// The whole number, for carriers and stores.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask(&self.0))
    }
}

impl From<E164> for String {
    fn from(number: E164) -> Self {
        number.0
    }
}

/// Text that does not have the shape of E.164.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Write the number in E.164: a plus sign and 5 to 15 digits, such as +12125550137.")]
pub struct NotE164;

/// What a suppression list names, as it is kept: a number in E.164, or the beginning of numbers, which ends with a star.
///
/// # Errors
/// The word that programs may decide by, and the sentence for people.
pub fn listed(text: &str) -> Result<(), (&'static str, String)> {
    let plain = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    if let Some(prefix) = text.strip_suffix('*') {
        let digits = prefix.strip_prefix('+').unwrap_or_default();
        let fits = (1..=14).contains(&digits.len()) && plain(digits);
        return if fits {
            Ok(())
        } else {
            Err(("invalid_prefix", "must be + and 1 to 14 digits, such as +1900".into()))
        };
    }
    let Err(error) = E164::try_from(text.to_owned()) else { return Ok(()) };
    let begins = text.strip_prefix('+').is_some_and(|digits| (1..5).contains(&digits.len()) && plain(digits));
    let hint = if begins { format!(" Write {text}* for a prefix.") } else { String::new() };
    Err((NumberError::Invalid("").code(), format!("{error}{hint}")))
}

impl TryFrom<String> for E164 {
    type Error = NotE164;

    /// Checks the shape only; whether the number is valid is for [`NumberRules::read`].
    fn try_from(text: String) -> Result<Self, NotE164> {
        let digits = text.strip_prefix('+').ok_or(NotE164)?;
        let fits =
            (5..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        if fits { Ok(Self(text)) } else { Err(NotE164) }
    }
}

/// What the numbering plan says a number is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NumberKind {
    /// A line at a place.
    FixedLine,
    /// A mobile telephone.
    Mobile,
    /// Either, where the plan does not tell them apart (North America).
    FixedLineOrMobile,
    /// Free for the caller.
    TollFree,
    /// The caller and the callee share the cost.
    SharedCost,
    /// A line over the internet.
    Voip,
    /// A number that follows a person.
    PersonalNumber,
    /// A pager.
    Pager,
    /// One number for many places of a company.
    Uan,
    /// A mailbox.
    Voicemail,
}

/// A number that may be dialed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    /// The number itself.
    pub e164: E164,
    /// What was written as its extension, digits only.
    pub extension: Option<String>,
    /// What it is for.
    pub kind: NumberKind,
    /// Whose plan it is in; `None` for a number of no country, such as +800.
    pub country: Option<Country>,
    /// True where the plan binds it to a place, so that its first digits say where it is: lines at a place, and mobile
    /// numbers of the countries that give them out by area.
    pub at_a_place: bool,
}

/// Why a text is no number to dial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Nothing was written.
    #[error("There is no number in this row. Write one, or remove the row.")]
    Missing,
    /// Longer than anything that is a number.
    #[error("This is too long for a telephone number. Write one number only.")]
    TooLong,
    /// A spreadsheet rounded it, e.g. `2.12556E+09`.
    #[error(
        "A spreadsheet shortened this number and its last digits are lost. Format the column as text and export it again."
    )]
    Spreadsheet,
    /// Not a valid number; the text says how.
    #[error("{0}")]
    Invalid(&'static str),
    /// A premium-rate number.
    #[error("This is a premium-rate number. They are never called; remove the row.")]
    Premium,
    /// A number of a satellite or global network.
    #[error("This is a number of a satellite or global network. They are never called; remove the row.")]
    Satellite,
    /// A short code of one country's services.
    #[error("This is a short code or a part of a number. Write the whole number with its area code.")]
    ShortCode,
    /// An emergency number.
    #[error("This is an emergency number. They are never called; remove the row.")]
    Emergency,
    /// Valid, but in a country that this business does not call.
    #[error("This number is in {}. Change what is allowed or remove the row.", place(*.0))]
    CountryNotAllowed(Option<Country>),
}

impl NumberError {
    /// The word that programs may decide by. The sentence for people is the error's text.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "missing_number",
            Self::TooLong => "too_long",
            Self::Spreadsheet | Self::Invalid(_) => "invalid_number",
            Self::Premium => "premium_number",
            Self::Satellite => "satellite_number",
            Self::ShortCode => "short_code",
            Self::Emergency => "emergency_number",
            Self::CountryNotAllowed(_) => "country_not_allowed",
        }
    }
}

/// How numbers of one list are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberRules {
    default_region: Country,
    allowed_countries: Option<Vec<Country>>,
}

impl NumberRules {
    /// Numbers without a country code are in `default_region`; every country may be called.
    #[must_use]
    pub fn new(default_region: Country) -> Self {
        Self { default_region, allowed_countries: None }
    }

    /// Only these countries may be called; `None` is every country, an empty list is none.
    #[must_use]
    pub fn allowing(mut self, countries: Option<Vec<Country>>) -> Self {
        self.allowed_countries = countries;
        self
    }

    /// Reads one number as people write it: national, international, `tel:`, with an extension, in any digits.
    ///
    /// # Errors
    /// [`NumberError`] says why the text is no number to dial. Nothing that libphonenumber holds invalid is accepted.
    pub fn read(&self, text: &str) -> Result<Number, NumberError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(NumberError::Missing);
        }
        if text.len() > TEXT_MAX {
            return Err(NumberError::TooLong);
        }
        let parsed = PHONE_NUMBER_UTIL
            .parse(text, Some(self.default_region.region()))
            .map_err(|error| self.unparsed(text, &error))?;
        // By the country code alone, so that an unassigned number of such a network is named for what it is.
        if GLOBAL_NETWORKS.contains(&parsed.country_code) {
            return Err(NumberError::Satellite);
        }
        if parsed.country_code == GLOBAL_PREMIUM {
            return Err(NumberError::Premium);
        }
        if !parsed.is_valid() {
            return Err(self.invalid(text, &parsed));
        }
        self.judge(&parsed)
    }

    /// A valid number: may it be dialed?
    fn judge(&self, parsed: &PhoneNumber) -> Result<Number, NumberError> {
        let kind = match parsed.get_type() {
            PhoneNumberType::PremiumRate => return Err(NumberError::Premium),
            PhoneNumberType::Unknown => return Err(NumberError::Invalid(NOT_ASSIGNED)),
            PhoneNumberType::FixedLine => NumberKind::FixedLine,
            PhoneNumberType::Mobile => NumberKind::Mobile,
            PhoneNumberType::FixedLineOrMobile => NumberKind::FixedLineOrMobile,
            PhoneNumberType::TollFree => NumberKind::TollFree,
            PhoneNumberType::SharedCost => NumberKind::SharedCost,
            PhoneNumberType::VoIP => NumberKind::Voip,
            PhoneNumberType::PersonalNumber => NumberKind::PersonalNumber,
            PhoneNumberType::Pager => NumberKind::Pager,
            PhoneNumberType::UAN => NumberKind::Uan,
            PhoneNumberType::VoiceMail => NumberKind::Voicemail,
        };
        let country = parsed.get_region_code().and_then(Country::of);
        if let Some(allowed) = &self.allowed_countries
            && !country.is_some_and(|country| allowed.contains(&country))
        {
            return Err(NumberError::CountryNotAllowed(country));
        }
        let e164 = parsed.format_as(PhoneNumberFormat::E164).into_owned();
        let e164 = E164::try_from(e164).map_err(|_| NumberError::Invalid(NOT_ASSIGNED))?;
        let extension = Some(parsed.extension()).filter(|digits| !digits.is_empty()).map(str::to_owned);
        // As libphonenumber says, which is asked only where the kind alone does not answer: each question is a search.
        let at_a_place = match kind {
            NumberKind::FixedLine | NumberKind::FixedLineOrMobile => true,
            NumberKind::Mobile => parsed.is_geographical(),
            _ => false,
        };
        Ok(Number { e164, extension, kind, country, at_a_place })
    }

    /// Text in which no number was found.
    fn unparsed(&self, text: &str, error: &ParseError) -> NumberError {
        if is_spreadsheet_notation(text) {
            return NumberError::Spreadsheet;
        }
        if let Some(short) = self.short(text) {
            return short;
        }
        match error {
            ParseError::InvalidCountryCode => {
                NumberError::Invalid("No country has this country code. Check the digits after the plus sign.")
            }
            ParseError::TooLongNsn => NumberError::TooLong,
            ParseError::TooShortAfterIdd | ParseError::TooShortNsn => NumberError::Invalid(TOO_SHORT),
            ParseError::NotANumber(_) => NumberError::Invalid(
                "This is not a telephone number. Write digits, such as (212) 555-0137 or +442079460123.",
            ),
        }
    }

    /// A number that the numbering plan does not hold valid.
    fn invalid(&self, text: &str, parsed: &PhoneNumber) -> NumberError {
        if let Some(short) = self.short(text) {
            return short;
        }
        match parsed.is_possible_with_reason() {
            Err(ValidationError::TooLong) => NumberError::TooLong,
            Err(ValidationError::TooShort) => NumberError::Invalid(TOO_SHORT),
            Ok(NumberLengthType::IsPossibleLocalOnly) => {
                NumberError::Invalid("The area code is missing. Write the whole number.")
            }
            _ => NumberError::Invalid(NOT_ASSIGNED),
        }
    }

    /// The name of a number too short for a public one: an emergency number or a short code.
    fn short(&self, text: &str) -> Option<NumberError> {
        let text = text.strip_prefix("tel:").unwrap_or(text);
        let digits: String = text.chars().filter_map(ascii_digit).collect();
        if digits.is_empty() || text.contains(char::is_alphabetic) {
            return None;
        }
        if is_emergency(&digits, self.default_region) {
            return Some(NumberError::Emergency);
        }
        (digits.len() <= SHORT_CODE_DIGITS && !text.starts_with(['+', '＋'])).then_some(NumberError::ShortCode)
    }
}

fn place(country: Option<Country>) -> String {
    country.map_or_else(
        || "no single country, and only some countries are allowed".to_owned(),
        |country| format!("{country}, which is not among the allowed countries"),
    )
}

const TOO_SHORT: &str = "This is too short for a telephone number. Write all digits with the area code.";
const NOT_ASSIGNED: &str = "The numbering plan has no such number. Check its digits and the run's default region.";

/// ASCII digits and the full-width ones that East Asian keyboards write.
fn ascii_digit(c: char) -> Option<char> {
    match c {
        '0'..='9' => Some(c),
        '０'..='９' => char::from_digit(c as u32 - '０' as u32, 10),
        _ => None,
    }
}

/// `2.12556E+09`: a mantissa, an E and an exponent, as spreadsheets print large numbers.
fn is_spreadsheet_notation(text: &str) -> bool {
    text.split_once(['E', 'e']).is_some_and(|(mantissa, exponent)| {
        let exponent = exponent.trim_start_matches('+');
        mantissa.starts_with(|c: char| c.is_ascii_digit())
            && mantissa.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b',')
            && (1..=2).contains(&exponent.len())
            && exponent.bytes().all(|b| b.is_ascii_digit())
    })
}

/// A number for a log line: every character hidden but a leading `+` and the last two.
/// A text of fewer than six characters is hidden whole.
#[must_use]
pub fn mask(e164: &str) -> String {
    let chars = e164.chars().count();
    let shown_from = if chars < 6 { chars } else { chars - 2 };
    e164.chars().enumerate().map(|(i, c)| if (i == 0 && c == '+') || i >= shown_from { c } else { '*' }).collect()
}
