//! A fault proxy: what stands between two programs, and what the weather does to it.
//!
//! In front of Postgres, Redis and the carrier it has one address behind it; in front of the apis it is the door that
//! spreads connections over all that answer.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::Instant,
};

/// Bytes passed on at once.
const CHUNK: usize = 16 * 1024;

/// What happens to the bytes that pass.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Weather {
    /// Each chunk comes so much later, in each direction.
    pub(crate) latency: Duration,
    /// Of all chunks, those at which the connection breaks off.
    pub(crate) resets: f64,
    /// Most bytes per second of one direction of a connection; 0: no limit.
    pub(crate) bytes_per_sec: u32,
    /// What does not pass at all.
    pub(crate) cut: Cut,
}

/// What does not pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Everything passes.
    #[default]
    No,
    /// Connections break off and none is taken.
    Closed,
    /// Connections stay and nothing passes: as a pulled cable.
    Silent,
    /// Requests pass, answers do not.
    Deaf,
}

/// A listener in front of other addresses.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    weather: watch::Sender<Weather>,
}

#[derive(Debug, Clone)]
struct Passage {
    weather: watch::Receiver<Weather>,
    random: Arc<Mutex<StdRng>>,
}

impl Proxy {
    /// Listens on a free port in front of these addresses; each connection goes to the next one that answers.
    pub(crate) async fn open(behind: Vec<SocketAddr>, seed: u64) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let (weather, seen) = watch::channel(Weather::default());
        let passage = Passage { weather: seen, random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))) };
        tokio::spawn(async move {
            let mut turn = behind;
            while let Ok((client, _)) = listener.accept().await {
                let passage = passage.clone();
                if passage.weather.borrow().cut == Cut::Closed {
                    continue;
                }
                let choice = turn.clone();
                turn.rotate_left(1);
                tokio::spawn(passage.connect(client, choice));
            }
        });
        Ok(Self { addr, weather })
    }

    /// Changes the weather for all connections, old and new.
    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Passage {
    async fn connect(self, client: TcpStream, choice: Vec<SocketAddr>) {
        for addr in choice {
            let Ok(server) = TcpStream::connect(addr).await else { continue };
            // A side that breaks off is what this is for.
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            let asked = self.clone().pass(from_client, to_server, Way::There);
            let answered = self.pass(from_server, to_client, Way::Back);
            // Where one way is over, the whole connection is: both halves are dropped with this task.
            tokio::select! { () = asked => {}, () = answered => {} }
            return;
        }
    }

    async fn pass(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way) {
        let mut bytes = vec![0; CHUNK];
        let mut cut = self.weather.clone();
        loop {
            let read = tokio::select! {
                read = from.read(&mut bytes) => read,
                () = closed(&mut cut) => return,
            };
            let Ok(count @ 1..) = read else { return };
            let weather = *self.weather.borrow();
            if weather.resets > 0.0 && self.draw() < weather.resets {
                return;
            }
            let mut wait = weather.latency;
            if weather.bytes_per_sec > 0 {
                wait += Duration::from_secs_f64(count as f64 / f64::from(weather.bytes_per_sec));
            }
            if !wait.is_zero() {
                tokio::time::sleep_until(Instant::now() + wait).await;
            }
            tokio::select! {
                () = open(&mut self.weather, way) => {}
                () = closed(&mut cut) => return,
            }
            if to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    }

    fn draw(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}

/// From who asks to who answers, or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

/// Waits until bytes may pass this way.
async fn open(weather: &mut watch::Receiver<Weather>, way: Way) {
    let passes = |weather: &Weather| match weather.cut {
        Cut::No => true,
        Cut::Deaf => way == Way::There,
        Cut::Silent | Cut::Closed => false,
    };
    if weather.wait_for(passes).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until no connection may stay.
async fn closed(weather: &mut watch::Receiver<Weather>) {
    if weather.wait_for(|weather| weather.cut == Cut::Closed).await.is_err() {
        std::future::pending::<()>().await;
    }
}
