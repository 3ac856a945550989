//! Silero's detector of voices: one model for the process, which hears the calls together.
//!
//! The model runs in a thread of its own, over pieces of up to [`MOST`] calls at once: a piece then costs a third of what it costs
//! alone. A call asks and goes on; the word comes before the end of its next piece.
//! Invariant: the pieces of a call are heard in their order; no call ever waits. A piece that finds no room, or whose word does
//! not come in time, is a voice, because the gate let it through.
//! Source of the shapes: `silero_vad_op18_ifless.onnx` of the package silero-vad 6 on PyPI (MIT): at 8 kHz pieces of 256 samples with
//! 32 of the piece before, and a state of 2 × 128 numbers.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use hdrhistogram::Histogram;
use ort::{
    environment::Environment,
    session::{Session, builder::GraphOptimizationLevel},
    value::Tensor,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{config::SileroSettings, models::hearing::Word};

/// Samples of a piece: 32 ms at 8 kHz.
const PIECE: usize = 256;
const PIECE_MS: u32 = 32;
/// Samples of the piece before that are heard again.
const BEFORE: usize = 32;
/// Numbers in each half of the state.
const HALF: usize = 128;
const RATE: i64 = 8_000;
/// Samples after which a call looks for its word again: 10 ms.
const LOOK: usize = 80;
/// Pieces that are heard at once.
const MOST: usize = 32;
/// For so long others are waited for.
const GATHER: Duration = Duration::from_millis(5);
/// Pieces that may wait: half a second of a thousand calls that all speak would be more, and too late for all of them.
const PERMITS: usize = 1_024;
/// Longest answer that is told apart, µs.
const LONGEST_US: u64 = 60_000_000;

/// The model of this process. Cheap to clone; its thread ends with the last of them and of its ears.
#[derive(Clone)]
pub struct Silero {
    pieces: SyncSender<Piece>,
    load: Arc<Load>,
    file: Arc<File>,
}

/// The model as `/status/models` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SileroStatus {
    /// Always.
    pub shared: bool,
    /// The model's file.
    pub path: PathBuf,
    /// What is in it, as hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// Pieces that wait or are being heard.
    pub in_flight: usize,
    /// At most.
    pub permits: usize,
    /// Pieces that were heard.
    pub answers: u64,
    /// Half had their word within this, ms; null before the first.
    pub p50_ms: Option<f64>,
    /// 99 of 100 had their word within this, ms.
    pub p99_ms: Option<f64>,
    /// Pieces that found no room.
    pub refused: u64,
    /// Pieces whose word did not come in time.
    pub late: u64,
    /// Pieces that the model could not hear.
    pub failed: u64,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    sha256: String,
    bytes: u64,
}

struct Load {
    in_flight: AtomicUsize,
    refused: AtomicU64,
    late: AtomicU64,
    failed: AtomicU64,
    /// Of the model's thread; a call never takes it.
    answers: Mutex<Histogram<u32>>,
}

/// The ear of one call.
pub struct Ear {
    model: Silero,
    call: Arc<Call>,
    samples: Vec<f32>,
    open: bool,
    asked: u32,
    next: Next,
}

/// What an ear will hear of its last piece.
enum Next {
    Nothing,
    Known(f32),
    Asked,
}

struct Call {
    /// The number of the last piece that was heard, and its likelihood's bits.
    word: AtomicU64,
    /// Of the model's thread; the call itself never takes it.
    memory: Mutex<Memory>,
}

struct Memory {
    state: [f32; 2 * HALF],
    before: [f32; BEFORE],
}

struct Piece {
    samples: Vec<f32>,
    number: u32,
    call: Arc<Call>,
    asked: Instant,
}

impl Silero {
    /// Loads library and model, has it hear a piece of silence, and starts its thread.
    ///
    /// # Errors
    /// Where a file cannot be read, the model is not the one that was asked for, or not one that hears such pieces.
    pub fn load(wanted: &SileroSettings<'_>) -> anyhow::Result<Self> {
        let model = fs::read(wanted.model).with_context(|| format!("SILERO_MODEL {}", wanted.model.display()))?;
        let file = File {
            path: wanted.model.to_owned(),
            sha256: hex::encode(Sha256::digest(&model)),
            bytes: u64::try_from(model.len())?,
        };
        if let Some(sha256) = wanted.sha256 {
            let same = file.sha256.eq_ignore_ascii_case(sha256);
            anyhow::ensure!(same, "SILERO_MODEL has the SHA-256 {}, not SILERO_SHA256 {sha256}", file.sha256);
        }
        let mut session = session(wanted, &model)?;
        let load = Arc::new(Load {
            in_flight: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            late: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            answers: Mutex::new(Histogram::new_with_bounds(1, LONGEST_US, 2)?),
        });
        let silence =
            Piece { samples: vec![0.0; PIECE], number: 1, call: Arc::new(Call::new()), asked: Instant::now() };
        let words = hear(&mut session, &[silence]).context("SILERO_MODEL does not hear a piece of 8 kHz")?;
        anyhow::ensure!(words.iter().all(|voice| (0.0..0.5).contains(voice)), "SILERO_MODEL hears voices in silence");
        let (pieces, waiting) = sync_channel(PERMITS);
        let seen = Arc::clone(&load);
        thread::Builder::new().name("silero".into()).spawn(move || listen(&mut session, &waiting, &seen))?;
        Ok(Self { pieces, load, file: Arc::new(file) })
    }

    /// An ear for a call.
    #[must_use]
    pub fn ear(&self) -> Ear {
        let samples = Vec::with_capacity(PIECE);
        Ear { model: self.clone(), call: Arc::new(Call::new()), samples, open: false, asked: 0, next: Next::Nothing }
    }

    /// Which model it is, and how busy.
    #[must_use]
    pub fn status(&self) -> SileroStatus {
        let (load, answers) = (&self.load, self.load.answers());
        let at = |quantile| {
            let us = u32::try_from(answers.value_at_quantile(quantile)).unwrap_or(u32::MAX);
            (!answers.is_empty()).then(|| f64::from(us) / 1_000.0)
        };
        SileroStatus {
            shared: true,
            path: self.file.path.clone(),
            sha256: self.file.sha256.clone(),
            bytes: self.file.bytes,
            in_flight: load.in_flight.load(Ordering::Relaxed),
            permits: PERMITS + MOST,
            answers: answers.len(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            refused: load.refused.load(Ordering::Relaxed),
            late: load.late.load(Ordering::Relaxed),
            failed: load.failed.load(Ordering::Relaxed),
        }
    }
}

impl Ear {
    /// Hears a sample of 8 kHz, while the gate is `open` or not; the word on the piece before, where it is known now.
    pub fn hear(&mut self, sample: i16, open: bool) -> Option<Word> {
        self.samples.push(f32::from(sample) / 32_768.0);
        self.open |= open;
        if self.samples.len() < PIECE {
            return if self.samples.len().is_multiple_of(LOOK) { self.look() } else { None };
        }
        let before = self.look().or_else(|| self.too_late());
        let samples = std::mem::replace(&mut self.samples, Vec::with_capacity(PIECE));
        self.next = if std::mem::take(&mut self.open) { self.ask(samples) } else { Next::Known(0.0) };
        before
    }

    fn ask(&mut self, samples: Vec<f32>) -> Next {
        self.asked = self.asked.wrapping_add(1);
        let piece = Piece { samples, number: self.asked, call: Arc::clone(&self.call), asked: Instant::now() };
        let load = &self.model.load;
        load.in_flight.fetch_add(1, Ordering::Relaxed);
        if self.model.pieces.try_send(piece).is_ok() {
            return Next::Asked;
        }
        load.in_flight.fetch_sub(1, Ordering::Relaxed);
        load.refused.fetch_add(1, Ordering::Relaxed);
        Next::Known(1.0)
    }

    fn look(&mut self) -> Option<Word> {
        let voice = match self.next {
            Next::Nothing => return None,
            Next::Known(voice) => voice,
            Next::Asked => {
                let word = self.call.word.load(Ordering::Acquire);
                if word >> 32 != u64::from(self.asked) {
                    return None;
                }
                f32::from_bits(u32::try_from(word & u64::from(u32::MAX)).unwrap_or_default())
            }
        };
        self.next = Next::Nothing;
        Some(Word { ms: PIECE_MS, voice })
    }

    /// The word on a piece that did not come before the end of the next.
    fn too_late(&mut self) -> Option<Word> {
        matches!(self.next, Next::Asked).then(|| {
            self.model.load.late.fetch_add(1, Ordering::Relaxed);
            Word { ms: PIECE_MS, voice: 1.0 }
        })
    }
}

impl Load {
    fn answers(&self) -> MutexGuard<'_, Histogram<u32>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    fn new() -> Self {
        let memory = Memory { state: [0.0; 2 * HALF], before: [0.0; BEFORE] };
        Self { word: AtomicU64::new(0), memory: Mutex::new(memory) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// onnxruntime itself is one for a process: whoever is first loads it, and it stays.
fn runtime(library: &Path) -> anyhow::Result<Environment> {
    static LOADED: Mutex<Option<Environment>> = Mutex::new(None);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*loaded {
        return Ok(environment.clone());
    }
    let path = || format!("ORT_DYLIB_PATH {}", library.display());
    let environment = ort::init_from(library).with_context(path)?.build().with_context(path)?;
    Ok(loaded.insert(environment).clone())
}

fn session(wanted: &SileroSettings<'_>, model: &[u8]) -> anyhow::Result<Session> {
    let environment = runtime(wanted.library)?;
    let told = |error: ort::Error<ort::session::builder::SessionBuilder>| anyhow::anyhow!("{error}");
    let mut builder = Session::builder(&environment)?
        .with_intra_threads(1)
        .map_err(told)?
        .with_inter_threads(1)
        .map_err(told)?
        .with_optimization_level(GraphOptimizationLevel::Level3)
        .map_err(told)?
        .with_log_level(ort::logging::LogLevel::Error)
        .map_err(told)?;
    builder.commit_from_memory(model).with_context(|| format!("SILERO_MODEL {}", wanted.model.display()))
}

/// Hears pieces until nobody can ask any more.
fn listen(session: &mut Session, waiting: &Receiver<Piece>, load: &Load) {
    let mut first = None;
    while let Some(piece) = first.take().or_else(|| waiting.recv().ok()) {
        let mut batch = vec![piece];
        first = gather(waiting, &mut batch);
        let words = hear(session, &batch).unwrap_or_else(|error| {
            tracing::error!(pieces = batch.len(), error = format!("{error:#}"), "Silero could not hear");
            load.failed.fetch_add(u64::try_from(batch.len()).unwrap_or(0), Ordering::Relaxed);
            vec![1.0; batch.len()]
        });
        let mut answers = load.answers();
        for (piece, voice) in batch.iter().zip(words) {
            piece.call.word.store(u64::from(piece.number) << 32 | u64::from(voice.to_bits()), Ordering::Release);
            answers.saturating_record(u64::try_from(piece.asked.elapsed().as_micros()).unwrap_or(LONGEST_US).max(1));
        }
        load.in_flight.fetch_sub(batch.len(), Ordering::Relaxed);
    }
}

/// Waits for more, each of another call; a second piece of one of them is for the next time.
fn gather(waiting: &Receiver<Piece>, batch: &mut Vec<Piece>) -> Option<Piece> {
    let until = Instant::now() + GATHER;
    while batch.len() < MOST {
        match waiting.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(piece) if batch.iter().any(|other| Arc::ptr_eq(&other.call, &piece.call)) => return Some(piece),
            Ok(piece) => batch.push(piece),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    None
}

/// How likely each piece is a voice; each call remembers what it heard.
fn hear(session: &mut Session, batch: &[Piece]) -> anyhow::Result<Vec<f32>> {
    let (calls, mut input, mut state) = (batch.len(), Vec::new(), vec![0.0; 2 * batch.len() * HALF]);
    for (at, piece) in batch.iter().enumerate() {
        let memory = piece.call.memory();
        input.extend_from_slice(&memory.before);
        input.extend_from_slice(&piece.samples);
        for (half, numbers) in memory.state.chunks_exact(HALF).enumerate() {
            state[(half * calls + at) * HALF..][..HALF].copy_from_slice(numbers);
        }
    }
    let outputs = session.run(ort::inputs![
        "input" => Tensor::from_array(([calls, BEFORE + PIECE], input))?,
        "state" => Tensor::from_array(([2, calls, HALF], state))?,
        "sr" => Tensor::from_array((Vec::<i64>::new(), vec![RATE]))?,
    ])?;
    let (_, words) = outputs["output"].try_extract_tensor::<f32>()?;
    let (_, state) = outputs["stateN"].try_extract_tensor::<f32>()?;
    anyhow::ensure!(words.len() == calls && state.len() == 2 * calls * HALF, "the model answers in another shape");
    for (at, piece) in batch.iter().enumerate() {
        let mut memory = piece.call.memory();
        for (half, numbers) in memory.state.chunks_exact_mut(HALF).enumerate() {
            numbers.copy_from_slice(&state[(half * calls + at) * HALF..][..HALF]);
        }
        memory.before.copy_from_slice(&piece.samples[PIECE - BEFORE..]);
    }
    Ok(words.to_vec())
}
