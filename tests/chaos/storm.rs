//! A storm of callbacks: true ones again, out of order and all at once, and some that no carrier signed.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rollcall::sim::{self, CallReport};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use crate::client::{Client, Log, Said, Tenant};

/// Callbacks under way at once; a carrier has no more connections either.
const AT_ONCE: usize = 256;
/// Of a hundred, those that are forged.
const FORGED: u32 = 10;

/// What the storm saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Storm {
    pub(crate) p99_ms: f64,
    /// Not answered, or with 5xx, or not as a callback of its kind must be.
    pub(crate) broken: u64,
    pub(crate) per_second: f64,
}

/// Where a storm comes from.
#[derive(Debug, Clone)]
pub(crate) struct Weather {
    pub(crate) carrier: String,
    pub(crate) door: String,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) log: Log,
    pub(crate) seed: u64,
}

impl Weather {
    /// Blows for so long.
    pub(crate) async fn blow(self, per_second: u32, length: Duration) -> anyhow::Result<Storm> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15)).build()?;
        let mut random = StdRng::seed_from_u64(self.seed);
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let (mut under_way, mut waits, mut broken) = (JoinSet::new(), Vec::new(), 0);
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let mut calls: Vec<CallReport> = Vec::new();
        let mut sent = 0_u32;
        while begun.elapsed() < length {
            ticks.tick().await;
            if calls.is_empty() || sent.is_multiple_of(per_second) {
                calls = http.get(format!("{}/_calls", self.carrier)).send().await?.json().await?;
                calls.retain(|call| call.token.is_some() && call.timeline.len() > 1 && self.tenant(call).is_some());
            }
            let due = (begun.elapsed().as_secs_f64() * f64::from(per_second)) as u32;
            while sent < due && !calls.is_empty() {
                sent += 1;
                let call = &calls[random.random_range(0..calls.len())];
                // What is not over is left to its own callbacks: an end that is told must be true.
                let status = call.timeline[random.random_range(1..call.timeline.len())].0;
                let forged = random.random_range(0..100) < FORGED;
                let one = self.one(&http, call, status.word(), forged);
                let room = Arc::clone(&room);
                under_way.spawn(async move {
                    let _permit = room.acquire_owned().await;
                    let asked = Instant::now();
                    let status = one.send().await.map(|answer| answer.status().as_u16()).unwrap_or(0);
                    (asked.elapsed(), status, forged)
                });
            }
            while let Some(done) = under_way.try_join_next() {
                self.note(done?, &mut waits, &mut broken);
            }
        }
        while let Some(done) = under_way.join_next().await {
            self.note(done?, &mut waits, &mut broken);
        }
        waits.sort_unstable();
        let p99 = waits.get(waits.len() * 99 / 100).copied().unwrap_or_default();
        let per_second = waits.len() as f64 / begun.elapsed().as_secs_f64();
        Ok(Storm { p99_ms: p99.as_secs_f64() * 1_000.0, broken, per_second })
    }

    /// Whose call it is; none where Telnyx has it: the storm is made of Twilio's forms.
    fn tenant(&self, call: &CallReport) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.account == call.account && !tenant.telnyx)
    }

    fn note(&self, (took, status, forged): (Duration, u16, bool), waits: &mut Vec<Duration>, broken: &mut u64) {
        waits.push(took);
        if forged {
            self.log.say(Said::Forged { status: if status == 0 { 599 } else { status } });
        }
        let well = if forged { status == 403 } else { (200..300).contains(&status) };
        *broken += u64::from(!well);
    }

    fn one(&self, http: &reqwest::Client, call: &CallReport, status: &str, forged: bool) -> reqwest::RequestBuilder {
        let url = format!("{}/webhooks/twilio/status/{}", self.door, call.token.as_deref().unwrap_or_default());
        let form = [
            ("AccountSid", call.account.as_str()),
            ("ApiVersion", "2010-04-01"),
            ("CallDuration", "1"),
            ("CallSid", &call.sid),
            ("CallStatus", status),
            ("Direction", "outbound-api"),
            ("From", &call.from),
            ("To", &call.to),
        ];
        let known = self.tenant(call).filter(|_| !forged);
        let secret = known.map_or("somebody else's", |tenant| &tenant.secret);
        let signature = sim::sign(secret, &sim::signed_url(&url), &form);
        http.post(url).header("X-Twilio-Signature", signature).form(&form)
    }
}

/// A storm from this carrier at this client's door.
pub(crate) fn weather(carrier: String, door: String, tenants: &[Tenant], client: &Client, seed: u64) -> Weather {
    Weather { carrier, door, tenants: tenants.to_vec(), log: client.log.clone(), seed }
}

/// Memory of these processes, MiB; 0 where the system does not say.
pub(crate) fn memory_mib(pids: &[u32]) -> f64 {
    #[cfg(target_os = "linux")]
    {
        let of = |pid: &u32| {
            let process = procfs::process::Process::new(i32::try_from(*pid).ok()?).ok()?;
            process.status().ok()?.vmrss
        };
        pids.iter().filter_map(of).sum::<u64>() as f64 / 1_024.0
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pids;
        0.0
    }
}
