//! The sandbox carrier: a pretend carrier with a memory, faults on demand, and figures.
//!
//! It judges the product, and so it knows the carriers' public formats and nothing of ours. It runs
//! as `rollcall-carrier` or inside a test ([`Sim::start`]), as often in one process as is wanted.
//!
//! Invariant: a call moves only forward, its final callback is sent when it ends, and every create
//! that was accepted is counted, whatever the client saw of it.
//! Not here: what an agent says, and which numbers there are: whoever rings one names its address.
mod call;
mod callbacks;
mod clock;
mod config;
mod control;
mod create;
mod dial;
mod faults;
mod figures;
mod life;
mod machine;
mod media;
mod outcome;
mod providers;
mod recording;
mod sound;
mod telnyx;
mod turnaround;
mod twilio;
mod waiting;
mod wire;
mod world;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use call::{CallReport, CallbackReport, Status};
pub use config::{Account, Config, FaultShares, Millis};
pub use faults::{ApiFault, CallbackFault, CreateFault, Faults, Rule};
pub use figures::{Figures, Quantiles, Scope};
pub use media::{Callee, Conversation, Line, Manners, MediaFigures, Then};
pub use outcome::{MAGIC, MAGIC_HELP, Outcome, Shares};
pub use providers::{Answer, Call, Provider, ProviderFault, ProviderFigures, ProviderRule, Providers, SessionReport};
pub use sound::{Ear, Heard, Speed, Utterance};
pub use telnyx::{Double, sign as sign_telnyx};
pub use twilio::{Forged, sign, signed_url};
pub use waiting::{Late, Undrivable, Until};
pub use wire::Tls;
pub use world::LogEntry;

use call::{CallId, Tempo};
use dial::{Dial, Trouble};
use figures::Whose;
use media::MediaTally;
use providers::Switchboard;
use turnaround::Place;
use twilio::Post;
use world::World;

/// How long answers under way may take when the sandbox stops.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// A running sandbox. Dropping it stops it.
#[derive(Debug)]
pub struct Sim {
    shared: Arc<Shared>,
    addr: SocketAddr,
    servers: Vec<JoinHandle<()>>,
}

/// What all parts of one sandbox share.
#[derive(Debug)]
pub(crate) struct Shared {
    config: Config,
    world: Mutex<World>,
    /// Apart from the rest, because every stream counts.
    media: Mutex<MediaTally>,
    switchboard: Mutex<Switchboard>,
    /// Counts changes; waiters look again at each.
    changed: watch::Sender<u64>,
    post: Post,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Sim {
    /// Starts a sandbox on a listener that is bound already. Needs a Tokio runtime around it.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn start(config: Config, listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            world: Mutex::new(World::new(&config)),
            media: Mutex::default(),
            switchboard: Mutex::new(Switchboard::new(config.seed)),
            config,
            changed: watch::Sender::new(0),
            post: Post::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let mut sim = Self { shared, addr, servers: Vec::new() };
        sim.serve(wire::Doors { listener, tls: None });
        Ok(sim)
    }

    /// Listens with TLS too, and returns where.
    ///
    /// # Errors
    /// When the socket or a file cannot be used.
    pub fn listen_with_tls(&mut self, tls: &Tls) -> io::Result<SocketAddr> {
        let (acceptor, listener) = (tls.acceptor()?, TcpListener::bind(tls.at)?);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let at = listener.local_addr()?;
        self.serve(wire::Doors { listener, tls: Some(acceptor) });
        Ok(at)
    }

    fn serve(&mut self, doors: wire::Doors) {
        let carriers = twilio::router().merge(telnyx::router()).merge(recording::router());
        let router = carriers.merge(providers::router()).merge(control::router());
        let router = router.with_state(Arc::clone(&self.shared));
        let service = router.into_make_service_with_connect_info::<wire::Cut>();
        let stopped = self.shared.stop.clone().cancelled_owned();
        self.servers.push(tokio::spawn(async move {
            if let Err(error) = axum::serve(doors, service).with_graceful_shutdown(stopped).await {
                tracing::error!(%error, "the sandbox stopped serving");
            }
        }));
    }

    /// Starts a sandbox on a free loopback port.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start_local(config: Config) -> io::Result<Self> {
        Self::start(config, TcpListener::bind(("127.0.0.1", 0))?)
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What to use in place of `https://api.twilio.com` and `https://api.telnyx.com`; no slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What was counted so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.shared.figures()
    }

    /// Counts from zero again; calls, their log and live counts stay.
    pub fn reset_figures(&self) {
        self.shared.reset();
    }

    /// Every call, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<CallReport> {
        self.shared.reports(|_| true)
    }

    /// Calls to one number, oldest first.
    #[must_use]
    pub fn calls_to(&self, to: &str) -> Vec<CallReport> {
        self.shared.reports(|call| call.dial.to == to)
    }

    /// Every create that was received, accepted or not, oldest first.
    #[must_use]
    pub fn log(&self) -> Vec<LogEntry> {
        self.shared.world().log.clone()
    }

    /// The rules in force.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.shared.world().faults.clone()
    }

    /// Replaces all rules; `Faults::default()` ends every fault.
    ///
    /// # Errors
    /// Says which rule makes no sense; then nothing changes.
    pub fn set_faults(&self, faults: Faults) -> Result<(), String> {
        faults.check()?;
        self.shared.world().faults = faults;
        Ok(())
    }

    /// Says who answers: the first that fits a call's numbers. What fits none answers as the flags say.
    pub fn set_callees(&self, callees: Vec<Callee>) {
        self.shared.world().callees = callees;
    }

    /// Every session of a voice provider, oldest first.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionReport> {
        self.shared.switchboard().sessions()
    }

    /// What the voice providers say to what: the first that fits. What fits none is said back.
    pub fn set_answers(&self, answers: Vec<Answer>) {
        self.shared.switchboard().answers = answers;
    }

    /// Replaces the faults of the voice providers; none end every fault.
    ///
    /// # Errors
    /// Says which rule makes no sense; then nothing changes.
    pub fn set_provider_faults(&self, rules: Vec<ProviderRule>) -> Result<(), String> {
        providers::check(&rules)?;
        self.shared.switchboard().rules = rules;
        Ok(())
    }

    /// The key that verifies Telnyx's webhooks, as its portal shows it.
    #[must_use]
    pub fn telnyx_public_key(&self) -> String {
        telnyx::public_key(self.shared.world().telnyx.seed())
    }

    /// Signs Telnyx's webhooks with another key from now on.
    pub fn set_telnyx_seed(&self, seed: [u8; 32]) {
        self.shared.world().telnyx.set_seed(seed);
    }

    /// Waits for something to have happened, without polling.
    ///
    /// # Errors
    /// [`Late`] when it did not within `limit`.
    pub async fn wait(&self, until: Until, limit: Duration) -> Result<(), Late> {
        self.shared.until(|world| until.is_met(world, &self.shared), limit).await
    }

    /// Lets somebody ring a number of an account: of Twilio's (its SID and auth token) whose voice URL and status callback are
    /// `url`, or of Telnyx' (connection id and API key) whose webhooks go there. Returns the carrier's id of the call.
    ///
    /// # Errors
    /// When the account is unknown here, or has as many calls as it may.
    pub fn ring(&self, account: (&str, &str), from: &str, to: &str, url: &str) -> Result<String, String> {
        self.shared.ring(account, from, to, url)
    }

    /// Answers a call that rings, for example one to a `held` number; waits up to 5 s for it to ring.
    ///
    /// # Errors
    /// When there is no such call, or it does not ring.
    pub async fn answer(&self, sid: &str) -> Result<(), Undrivable> {
        self.shared.answer(sid).await
    }

    /// Ends a call from the far side, in any state but a final one.
    ///
    /// # Errors
    /// When there is no such call, it has ended, or `status` is not final.
    pub fn end(&self, sid: &str, status: Status) -> Result<(), Undrivable> {
        self.shared.end(sid, status)
    }

    /// Sends a signed status callback that need not be true, and waits for the answer.
    ///
    /// # Errors
    /// When there is no such call, or it has no status callback.
    pub async fn callback(&self, sid: &str, forged: Forged) -> Result<CallbackReport, Undrivable> {
        let id = self.shared.world().find(sid).ok_or(Undrivable::Unknown)?;
        self.shared.forge(id, forged).await.ok_or(Undrivable::Silent)
    }

    /// Stops: no new connections, answers under way get 2 s, open calls vanish without a callback.
    pub async fn shutdown(mut self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        let mut all = futures::future::join_all(std::mem::take(&mut self.servers));
        if tokio::time::timeout(LAST_ANSWERS, &mut all).await.is_err() {
            tracing::warn!("answers under way were dropped");
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        // Every change is complete before anything can panic; a poisoned lock is as good as new.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn media(&self) -> MutexGuard<'_, MediaTally> {
        self.media.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn switchboard(&self) -> MutexGuard<'_, Switchboard> {
        self.switchboard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn figures(&self) -> Figures {
        let figures = self.world().tally.figures();
        let providers = self.switchboard().figures();
        Figures { media: self.media().figures(), providers, ..figures }
    }

    fn reset(&self) {
        self.world().tally.reset();
        self.media().reset();
        self.switchboard().reset();
    }

    fn touch(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Runs a task until it is done or the sandbox stops.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        // A call is a large task: in a box it is moved once.
        let task = Box::pin(task);
        self.tasks.spawn(async move {
            stop.run_until_cancelled_owned(task).await;
        });
    }

    /// Lets somebody ring a number of an account.
    fn ring(
        self: &Arc<Self>,
        (account, auth_token): (&str, &str),
        from: &str,
        to: &str,
        url: &str,
    ) -> Result<String, String> {
        if !self.world().lets_in(account, auth_token, &self.config) {
            return Err("this is not the account's auth token".to_owned());
        }
        let of = if twilio::is_sid("AC", account) { twilio::inbound } else { telnyx::inbound };
        let dial = of(from, to, url);
        let place = self.world().tally.place(Whose { account, from: &dial.from });
        let id = self.accept(account, dial, Tempo::Natural, place).map_err(|why| format!("{why:?}"))?;
        Ok(self.world().call(id).sid.clone())
    }

    /// Accepts a call, whose create took this place, and lets it live.
    fn accept(self: &Arc<Self>, account: &str, dial: Dial, tempo: Tempo, place: Place) -> Result<CallId, Trouble> {
        let id = self.world().admit(account, dial, tempo, place, &self.config)?;
        self.spawn(life::live(Arc::clone(self), id));
        self.touch();
        Ok(id)
    }
}
