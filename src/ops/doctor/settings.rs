//! Settings that fight: with each other, with the limits in Postgres, with the carrier accounts.

use url::{Host, Url};

use super::{Check, Fault};
use crate::{
    agents,
    businesses::standing::{self, Limits},
    config::{Role, Settings, WorkClass},
    context::Context,
    heartbeats::{self, Seen},
    ids::Carrier,
};

/// The settings of this command, which should be those of the programs.
pub(super) async fn check(ctx: &Context) -> anyhow::Result<Check> {
    let settings = &ctx.settings;
    let limits = standing::limits(&ctx.stores.pg).await?;
    let accounts = standing::accounts(&ctx.stores.pg).await?;
    let facts = ctx.stores.postgres().await?;
    let real = accounts.iter().any(|account| is_real(settings, account.carrier, account.api_base_url.as_deref()));
    let mut faults: Vec<Fault> =
        settings.contradictions().into_iter().map(|wrong| Fault::fail(wrong, "correct the setting")).collect();
    faults.extend(of_limits(settings, &limits));
    faults.extend(of_times(settings));
    faults.extend(of_address(&settings.public_base_url, real));
    let processes = heartbeats::processes(&ctx.stores).await?;
    let alive = processes.iter().filter(|process| process.alive());
    let pools: usize = alive.map(|process| if process.beat.role == Role::Api { 2 } else { 1 }).sum();
    if agents::store::any(&ctx.stores.pg).await? {
        faults.extend(of_voices(settings, limits.max_lines));
        if real {
            faults.extend(of_media(&processes));
        }
    }
    faults.extend(of_pool(settings.database_pool, i64::try_from(pools)?, facts.connections));
    let well = format!(
        "{} lines, pools of {} connections (Postgres takes {}), carriers call {}",
        limits.max_lines.unwrap_or(0),
        settings.database_pool,
        facts.connections,
        settings.public_base_url
    );
    Ok(Check::of("settings", well, faults))
}

fn of_limits(settings: &Settings, limits: &Limits) -> Vec<Fault> {
    let ours = settings.max_lines();
    let mut faults = Vec::new();
    match limits.max_lines {
        None => faults.push(Fault::fail(
            "the installation has no number of lines yet, so nobody may dial",
            "start an api: it writes MAX_CONCURRENT_CALLS down",
        )),
        Some(row) if row != ours => faults.push(Fault::warn(
            format!("MAX_CONCURRENT_CALLS is {ours} here, but {row} is in force (installation.max_lines)"),
            "the api that starts last decides: give all programs the same number and restart an api",
        )),
        Some(row) if limits.lines_open > i64::from(row) => faults.push(Fault::warn(
            format!("{} lines are held and {row} are allowed", limits.lines_open),
            "the limit was lowered: no new call starts until enough have ended; nothing to do",
        )),
        Some(_) => {}
    }
    let lines = limits.max_lines.unwrap_or(ours);
    if let Some(most) = limits.most_of_one.filter(|most| *most > lines) {
        faults.push(Fault::warn(
            format!("a business may have {most} calls at once, but all together {lines}"),
            "raise MAX_CONCURRENT_CALLS or lower the business's max_concurrent_calls",
        ));
    }
    let own = i64::from(settings.business_max_concurrent_calls);
    if own > i64::from(ours) {
        faults.push(Fault::warn(
            format!("BUSINESS_MAX_CONCURRENT_CALLS is {own}, more than MAX_CONCURRENT_CALLS, {ours}"),
            "new businesses would share one limit; lower it",
        ));
    }
    faults
}

fn of_times(settings: &Settings) -> Vec<Fault> {
    let times = &settings.times;
    let mut faults = Vec::new();
    let needed = times.post_timeout_ms;
    if settings.drain_timeout_secs * 1_000 < needed {
        faults.push(Fault::warn(
            format!(
                "DRAIN_TIMEOUT_SECS is {} s, and a request to the carrier may take {needed} ms",
                settings.drain_timeout_secs
            ),
            "raise it: calls that a stop cuts off are in doubt for a minute",
        ));
    }
    if times.live_look_fast_ms > times.live_look_ms {
        faults.push(Fault::warn(
            format!(
                "LIVE_LOOK_FAST_MS, {}, is slower than LIVE_LOOK_MS, {}",
                times.live_look_fast_ms, times.live_look_ms
            ),
            "lower it: lost callbacks are made up for by it",
        ));
    }
    if times.look_give_up_ms < times.second_empty_look_ms {
        faults.push(Fault::warn(
            "LOOK_GIVE_UP_MS comes before SECOND_EMPTY_LOOK_MS",
            "raise it: else no look asks whether the carrier's list is fresh",
        ));
    }
    if [WorkClass::Runs, WorkClass::Maintenance].iter().any(|class| !settings.worker_queues.contains(class)) {
        faults.push(Fault::warn(
            "WORKER_QUEUES has not both runs and maintenance: such a worker does not sweep, or does not reconcile",
            "have one worker at least for each",
        ));
    }
    faults
}

fn of_address(public: &Url, real_carrier: bool) -> Vec<Fault> {
    if !real_carrier {
        return Vec::new();
    }
    let advice = "set PUBLIC_BASE_URL to the https address that the carrier reaches";
    if is_near(public) {
        let evidence =
            format!("PUBLIC_BASE_URL is {public}, which no carrier on the internet reaches: every callback is lost");
        return vec![Fault::fail(evidence, advice)];
    }
    if public.scheme() != "https" {
        return vec![Fault::warn(format!("PUBLIC_BASE_URL is {public}: callbacks travel in the clear"), advice)];
    }
    Vec::new()
}

/// True where the account's carrier is one that rings people: its API is outside of this machine and its network.
fn is_real(settings: &Settings, carrier: Carrier, own: Option<&str>) -> bool {
    let general = match carrier {
        Carrier::Twilio => &settings.twilio_api_base_url,
        Carrier::Telnyx => &settings.telnyx_api_base_url,
    };
    !is_near(own.and_then(|url| url.parse().ok()).as_ref().unwrap_or(general))
}

/// Where a real carrier is told to open media streams, as each living calls program says it of itself.
fn of_media(processes: &[Seen]) -> Vec<Fault> {
    let calls = processes.iter().filter(|process| process.beat.role == Role::Calls && process.alive());
    let told = calls.filter_map(|process| Some((&process.beat.name, process.beat.media_url.as_deref()?.parse().ok()?)));
    told.filter_map(|(name, url): (_, Url)| {
        let why = if is_near(&url) {
            "which no carrier on the internet reaches: whoever answers hears nothing"
        } else if url.scheme() != "wss" {
            "which carriers refuse: they open media streams by TLS only"
        } else {
            return None;
        };
        let evidence = format!("PUBLIC_MEDIA_URL of {name} is {url}, {why}");
        Some(Fault::fail(evidence, "set PUBLIC_MEDIA_URL to the wss address that the carrier reaches"))
    })
    .collect()
}

/// Where agents talk, an account at a voice provider that allows fewer conversations than there are lines decides how many there are.
fn of_voices(settings: &Settings, max_lines: Option<i32>) -> Vec<Fault> {
    let lines = usize::try_from(max_lines.unwrap_or(settings.max_lines())).unwrap_or(0);
    let each = ["deepgram", "elevenlabs", "openai"].map(|name| (name, settings.voice.provider(name).most_at_once));
    each.into_iter()
        .filter(|(_, most)| *most < lines)
        .map(|(name, most)| {
            let setting = format!("{}_AT_ONCE", name.to_uppercase());
            let what = match name {
                "openai" => {
                    "realtime agents talk with no more people at once, and answers of others wait for each other"
                }
                _ => "agents talk with no more people at once",
            };
            let advice = format!(
                "raise {setting} as far as the plan at {name} allows; runs with an agent leave the other lines free"
            );
            Fault::warn(format!("{setting} is {most}, and there are {lines} lines: {what}"), advice)
        })
        .collect()
}

/// `pools` of what beats, two for each api; those of one api, one worker and this command are there or will be.
fn of_pool(pool: u32, pools: i64, connections: i64) -> Vec<Fault> {
    let (pool, pools) = (i64::from(pool), pools.max(3) + 1);
    let evidence = format!(
        "DATABASE_POOL is {pool} for each of {pools} pools (an api has two), and Postgres takes {connections} connections in all"
    );
    let advice = "lower DATABASE_POOL or raise max_connections";
    if pool > connections {
        return vec![Fault::fail(evidence, advice)];
    }
    if pool * pools > connections { vec![Fault::warn(evidence, advice)] } else { Vec::new() }
}

/// True where the address is of this machine or of a private network, or is a bare name of one.
fn is_near(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_unspecified() || ip.is_link_local(),
        Some(Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local(),
        Some(Host::Domain(name)) => !name.contains('.') || name.ends_with(".local") || name.ends_with(".internal"),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::ops::doctor::Verdict;

    fn worst(faults: &[Fault]) -> Option<Verdict> {
        faults.iter().map(|fault| fault.verdict).max()
    }

    #[test]
    fn a_public_address_must_be_one_that_a_real_carrier_reaches() {
        let address = |url: &str, real| worst(&of_address(&url.parse().unwrap(), real));
        for near in
            ["http://127.0.0.1:8080", "https://localhost", "https://10.1.2.3", "http://nginx", "http://[::1]:80"]
        {
            assert_eq!((address(near, true), address(near, false)), (Some(Verdict::Fail), None), "{near}");
        }
        assert_eq!(address("http://calls.example.com", true), Some(Verdict::Warn));
        assert_eq!(address("https://calls.example.com/rollcall", true), None);
    }

    #[test]
    fn an_account_is_judged_by_its_own_carriers_address() {
        let settings = Settings::parse_from(["test", "--twilio-api-base-url", "http://127.0.0.1:8070"]);
        let real = |carrier, own| is_real(&settings, carrier, own);
        assert!(!real(Carrier::Twilio, None), "this one is the sandbox");
        assert!(real(Carrier::Telnyx, None) && !real(Carrier::Telnyx, Some("http://carrier:8070")));
        assert!(real(Carrier::Twilio, Some("https://api.dublin.ie1.twilio.com")));
    }

    #[test]
    fn a_real_carrier_opens_media_streams_at_a_public_wss_address_only() {
        let calls = |media: &str, beat_at_ms: u64| {
            let beat = serde_json::json!({"role": "calls", "name": "c", "host": "h", "pid": 1, "version": "1",
                "started_at": 1, "beat_at": 1, "beat_at_ms": beat_at_ms, "interval_ms": 5_000, "in_flight": 0, "media_url": media});
            Seen::at(serde_json::from_value(beat).unwrap(), 100_000)
        };
        let faults = |media: &str| worst(&of_media(&[calls(media, 99_000)]));
        for wrong in ["ws://127.0.0.1:8090", "wss://10.0.0.3", "ws://nginx", "ws://calls.example.com"] {
            assert_eq!(faults(wrong), Some(Verdict::Fail), "{wrong}");
        }
        assert_eq!(faults("wss://calls.example.com"), None);
        assert_eq!(worst(&of_media(&[calls("ws://nginx", 1_000)])), None, "one that is dead is given no stream");
    }

    #[test]
    fn an_account_at_a_voice_provider_that_allows_fewer_conversations_than_there_are_lines_is_named() {
        let faults = |args: &[&str], lines| of_voices(&Settings::parse_from([&["test"], args].concat()), Some(lines));
        assert_eq!(faults(&[], 50).len(), 0);
        let few = faults(&["--elevenlabs-at-once", "10"], 50);
        assert!(few.len() == 1 && few[0].evidence.starts_with("ELEVENLABS_AT_ONCE is 10, and there are 50 lines"));
        assert_eq!((worst(&few), faults(&[], 60).len()), (Some(Verdict::Warn), 2));
    }

    #[test]
    fn the_limit_in_force_must_be_the_one_that_is_set() {
        let settings = Settings::parse_from(["test", "--max-concurrent-calls", "40"]);
        let limits = |max_lines| Limits { max_lines, lines_open: 3, most_of_one: Some(5), businesses: 2 };
        assert_eq!(worst(&of_limits(&settings, &limits(Some(40)))), None);
        assert_eq!(worst(&of_limits(&settings, &limits(Some(50)))), Some(Verdict::Warn));
        assert_eq!(worst(&of_limits(&settings, &limits(None))), Some(Verdict::Fail));
        assert_eq!(of_limits(&settings, &limits(Some(2))).len(), 2, "another number, and too few for one business");
    }

    #[test]
    fn a_worker_that_takes_on_every_class_of_work_has_no_fault_and_every_class_has_its_word() {
        let all = "calls,runs,hooks,recordings,maintenance";
        let settings = Settings::parse_from(["test", "--worker-queues", all]);
        assert_eq!(of_times(&settings).len(), 0);
        let words: Vec<&str> = settings.worker_queues.iter().map(|class| class.as_str()).collect();
        assert_eq!(words.join(","), all);
        for missing in ["calls,maintenance", "calls,runs"] {
            assert_eq!(of_times(&Settings::parse_from(["test", "--worker-queues", missing])).len(), 1, "{missing}");
        }
    }

    #[test]
    fn a_drain_must_outlast_a_request_to_the_carrier() {
        let faults = |args: &[&str]| of_times(&Settings::parse_from([&["test"], args].concat())).len();
        assert_eq!((faults(&[]), faults(&["--drain-timeout-secs", "9"])), (0, 1));
        assert_eq!(faults(&["--worker-queues", "calls", "--live-look-fast-ms", "20000"]), 2);
    }

    #[test]
    fn the_pools_must_fit_into_postgres() {
        assert_eq!(worst(&of_pool(16, 5, 97)), None);
        assert_eq!(worst(&of_pool(16, 6, 97)), Some(Verdict::Warn));
        assert_eq!(worst(&of_pool(200, 0, 97)), Some(Verdict::Fail));
    }
}
