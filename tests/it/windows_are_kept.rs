//! I11: no phone rings outside the callee's hours, whatever the calendar does.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rollcall::policy::{Calendars, Openings, Span, Window};
use serde_json::json;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn window(value: serde_json::Value) -> Window {
    serde_json::from_value(value).unwrap()
}

fn daily(from: &str, to: &str) -> Window {
    window(json!({"hours": [{"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": from, "to": to}]}))
}

/// What these windows allow together.
fn openings<'a>(windows: impl IntoIterator<Item = &'a Window>, zones: &[&str]) -> Openings {
    let zones: Vec<String> = zones.iter().map(|&name| name.to_owned()).collect();
    Openings::new(windows, &Calendars::new(), &zones, None)
}

/// What one window allows next.
fn next(window: &Window, zones: &[&str], now: &str) -> Span {
    openings([window], zones).span(at(now))
}

fn within(from: &str, to: &str) -> Span {
    Span::Within(at(from), at(to))
}

#[test]
fn hours_are_those_of_the_callee_in_every_zone_that_a_number_may_be_in() {
    let day = daily("09:00", "20:00");
    // Kolkata is at +05:30, Kathmandu at +05:45.
    let found = next(&day, &["Asia/Kolkata"], "2026-11-23T00:00:00Z");
    assert_eq!(found, within("2026-11-23T03:30:00Z", "2026-11-23T14:30:00Z"));
    let found = next(&day, &["Asia/Kathmandu"], "2026-11-23T00:00:00Z");
    assert_eq!(found, within("2026-11-23T03:15:00Z", "2026-11-23T14:15:00Z"));
    // Somewhere between New York and Los Angeles: from nine in the west until eight in the east.
    let found = next(&day, &["America/New_York", "America/Los_Angeles"], "2026-11-23T00:30:00Z");
    assert_eq!(found, within("2026-11-22T17:00:00Z", "2026-11-23T01:00:00Z"));
}

#[test]
fn clocks_that_are_put_forward_or_back_never_let_a_call_ring_outside_the_hours() {
    // New York goes from 02:00 to 03:00 on 8 March 2026, and from 02:00 to 01:00 on 1 November 2026.
    let night = daily("02:30", "04:00");
    assert_eq!(
        next(&night, &["America/New_York"], "2026-03-08T00:00:00Z"),
        within("2026-03-08T07:00:00Z", "2026-03-08T08:00:00Z"),
        "half past two never comes: it opens with the jump"
    );
    let small = daily("00:30", "01:30");
    assert_eq!(
        next(&small, &["America/New_York"], "2026-11-01T00:00:00Z"),
        within("2026-11-01T04:30:00Z", "2026-11-01T05:30:00Z"),
        "it ends when half past one comes for the first time"
    );
    let late = daily("01:30", "03:00");
    assert_eq!(
        next(&late, &["America/New_York"], "2026-11-01T00:00:00Z"),
        within("2026-11-01T06:30:00Z", "2026-11-01T08:00:00Z"),
        "it begins when half past one comes for the second time"
    );
    // Lord Howe Island moves its clocks by half an hour.
    let morning = daily("09:00", "10:00");
    assert_eq!(
        next(&morning, &["Australia/Lord_Howe"], "2026-04-04T20:00:00Z"),
        within("2026-04-04T22:30:00Z", "2026-04-04T23:30:00Z")
    );
}

#[test]
fn days_without_calls_are_days_of_the_callee() {
    let mut day = daily("09:00", "20:00");
    day.blackout_dates = vec!["2026-12-25".parse().unwrap()];
    assert_eq!(
        next(&day, &["Asia/Tokyo"], "2026-12-24T15:30:00Z"),
        within("2026-12-26T00:00:00Z", "2026-12-26T11:00:00Z"),
        "the 25th has begun in Tokyo"
    );
    day.calendars = vec!["feasts".to_owned()];
    let calendars: Calendars = [("feasts".to_owned(), ["2026-12-26".parse().unwrap()].into())].into();
    let open = |calendars| Openings::new([&day], calendars, &["Asia/Tokyo".to_owned()], None);
    let now = at("2026-12-24T15:30:00Z");
    assert_eq!(open(&calendars).span(now), within("2026-12-27T00:00:00Z", "2026-12-27T11:00:00Z"));
    assert_eq!(open(&Calendars::new()).span(now), Span::Never, "nobody knows the days of a calendar that is gone");
}

#[test]
fn a_window_without_end_is_one_stretch_and_one_that_suits_nobody_never_opens() {
    let Span::Within(opens, closes) = next(&daily("00:00", "24:00"), &["Europe/Berlin"], "2026-11-23T12:00:00Z") else {
        panic!("it is open all day");
    };
    assert!(opens <= at("2026-11-23T12:00:00Z") && closes > at("2026-11-30T00:00:00Z"), "{opens} to {closes}");
    let short = daily("09:00", "10:00");
    assert_eq!(next(&short, &["Pacific/Auckland", "Europe/London"], "2026-11-23T00:00:00Z"), Span::Never);
    assert_eq!(next(&short, &[], "2026-11-23T00:00:00Z"), Span::Never, "nobody knows where that phone is");
}

#[test]
fn the_hours_of_run_and_business_both_hold() {
    let (run, mut business) = (daily("08:00", "12:00"), daily("10:00", "21:00"));
    business.zone = "Europe/Berlin".to_owned();
    let found = openings([&run, &business], &["Europe/London"]).span(at("2026-11-23T00:00:00Z"));
    assert_eq!(found, within("2026-11-23T09:00:00Z", "2026-11-23T12:00:00Z"));
}

#[test]
fn what_takes_long_is_over_after_as_many_openings_as_it_needs() {
    let mut lunch = daily("09:00", "12:00");
    lunch.hours.extend(daily("13:00", "17:00").hours);
    let open = openings([&lunch], &["Europe/Berlin"]).without(Duration::from_mins(1));
    let over = |hours| open.over_at(TimeDelta::hours(hours), at("2026-11-23T07:00:00Z"));
    // Each opening is a minute shorter: by then what has been dialed has stopped to ring.
    assert_eq!(over(2), Some(at("2026-11-23T10:00:00Z")));
    assert_eq!(over(4), Some(at("2026-11-23T13:01:00Z")), "after lunch");
    assert_eq!(over(8), Some(at("2026-11-24T09:02:00Z")));
    assert_eq!(over(1_300), Some(at("2027-05-28T12:13:00Z")), "187 days, and clocks were put forward");
    assert_eq!(over(1_400), None, "beyond four hundred openings nobody knows");
    assert_eq!(open.first(at("2026-11-23T10:59:30Z")), Some(at("2026-11-23T12:00:00Z")), "too late before lunch");
    let always = openings([], &[]);
    assert_eq!(always.over_at(TimeDelta::days(1_000), at("2026-11-23T00:00:00Z")), Some(at("2029-08-19T00:00:00Z")));
}

proptest::proptest! {
    /// Every minute of the span that is found is one that the clock on the callee's wall allows.
    #[test]
    fn whatever_the_zones_and_the_moment_the_clock_on_the_wall_allows_every_minute_that_is_found(
        zones in proptest::sample::subsequence(&chrono_tz::TZ_VARIANTS[..], 1..4),
        from in 0_u32..1_400, long in 15_u32..600, seconds in 1_767_225_600_i64..1_830_297_600,
    ) {
        use chrono::Timelike;
        let to = (from + long).min(1_440);
        proptest::prop_assume!(to >= from + 15);
        let text = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
        let day = daily(&text(from), &text(to));
        let now = DateTime::from_timestamp(seconds, 0).unwrap();
        let names: Vec<_> = zones.iter().map(|zone| zone.name()).collect();
        if let Span::Within(opens, closes) = openings([&day], &names).span(now) {
            proptest::prop_assert!(closes > now);
            let mut moment = opens;
            while moment < closes.min(opens + TimeDelta::days(2)) {
                for zone in &zones {
                    let wall = moment.with_timezone(zone);
                    let minute = wall.hour() * 60 + wall.minute();
                    proptest::prop_assert!((from..to).contains(&minute), "{moment} is {wall}");
                }
                moment += TimeDelta::minutes(1);
            }
        }
    }
}
