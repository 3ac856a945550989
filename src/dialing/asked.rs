//! What the carriers are being asked by a round: each account by itself, so that one that hangs delays nobody else.
//!
//! Invariant: the same thing is asked about once at a time; an account has at most `AT_ONCE` questions under way and a bounded
//! number that wait, all accounts together `MOST`; all of them end when the process stops.
//! Not here: what is asked (the rounds), and whose turn it is. A pick takes its rows' next time forward, so what is not begun here
//! comes again.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::ids::BusinessId;

/// Questions to one account under way: two hundred calls that are cancelled together are asked to end within a second or two.
const AT_ONCE: usize = 16;
/// Questions of one account, under way or waiting: as many calls as a large business has.
pub(super) const MOST_OF_ONE: usize = 256;
/// The same of all accounts.
const MOST: usize = 2_048;
/// What took so long took as long as an answer that never comes: a request ends after ten seconds (`carriers::HttpLimits`).
const SILENCE: Duration = Duration::from_secs(8);

/// What one kind of round asks.
#[derive(Clone)]
pub struct Asked(Arc<Parts>);

struct Parts {
    now: Mutex<Now>,
    /// Questions of one account, at most.
    most_of_one: usize,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

#[derive(Default)]
struct Now {
    accounts: HashMap<String, Questions>,
    /// Questions of all of them.
    count: usize,
}

/// What one account is asked.
#[derive(Default)]
struct Questions {
    /// What the questions are about, under way or waiting.
    about: HashSet<String>,
    waiting: VecDeque<(String, BoxFuture<'static, ()>)>,
    under_way: usize,
    /// True where it took the last one until its end: then it is asked one thing at a time, so that many such accounts keep little
    /// busy.
    silent: bool,
}

impl Asked {
    /// Nothing yet; tasks are tracked by `tasks` and end with `stopping`.
    #[must_use]
    pub fn new(tasks: &TaskTracker, stopping: &CancellationToken) -> Self {
        Self::with_most(MOST_OF_ONE, tasks, stopping)
    }

    /// The same where an account is asked one thing at a time.
    #[must_use]
    pub fn one_each(tasks: &TaskTracker, stopping: &CancellationToken) -> Self {
        Self::with_most(1, tasks, stopping)
    }

    fn with_most(most_of_one: usize, tasks: &TaskTracker, stopping: &CancellationToken) -> Self {
        let (tasks, stopping) = (tasks.clone(), stopping.clone());
        Self(Arc::new(Parts { now: Mutex::default(), most_of_one, tasks, stopping }))
    }

    /// The same with tasks of its own, for who waits until all has [`Self::ended`].
    pub(super) fn alone() -> Self {
        Self::new(&TaskTracker::new(), &CancellationToken::new())
    }

    /// Accounts that are not asked more now: a pick leaves their rows to a later one.
    fn full(&self) -> Vec<String> {
        let now = self.lock();
        let full = now.accounts.iter().filter(|(_, questions)| questions.about.len() >= self.most_of(questions));
        full.map(|(account, _)| account.clone()).collect()
    }

    /// Everything that is asked about now.
    #[must_use]
    pub fn about(&self) -> Vec<String> {
        self.lock().accounts.values().flat_map(|questions| &questions.about).cloned().collect()
    }

    /// Picks, and begins what was picked, until nobody else is due; returns how much was begun. `pick` gets the accounts to leave
    /// out, and picks at most `most`.
    ///
    /// # Errors
    /// Those of a pick; what was begun goes on.
    pub async fn all_due<T, P, F>(&self, most: i64, pick: P, begin: impl Fn(T) -> bool) -> sqlx::Result<usize>
    where
        P: Fn(Vec<String>) -> F,
        F: Future<Output = sqlx::Result<Vec<T>>>,
    {
        let mut count = 0;
        loop {
            let picked = pick(self.full()).await?;
            let whole = i64::try_from(picked.len()).is_ok_and(|picked| picked >= most);
            let begun = picked.into_iter().map(&begin).filter(|begun| *begun).count();
            count += begun;
            // What one account has no room for must not hide another's; where there is room for nothing, a later round goes on.
            if begun == 0 || !whole {
                return Ok(count);
            }
        }
    }

    /// Begins a question `about` something to an account, which has its [`name`], or lets it wait for its turn there. False where
    /// it is being asked already, or there is no room: a later pick repeats it.
    pub fn begin<Q>(&self, account: String, about: impl ToString, question: Q) -> bool
    where
        Q: Future<Output = ()> + Send + 'static,
    {
        let mut now = self.lock();
        let now = &mut *now;
        if now.count >= MOST || self.0.stopping.is_cancelled() {
            return false;
        }
        let about = about.to_string();
        let questions = now.accounts.entry(account.clone()).or_default();
        if questions.about.len() >= self.most_of(questions) || !questions.about.insert(about.clone()) {
            return false;
        }
        questions.waiting.push_back((about, question.boxed()));
        self.go_on(&account, questions);
        now.count += 1;
        true
    }

    /// Waits until all that was begun has ended. Its tracker must be its own.
    pub(super) async fn ended(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn most_of(&self, questions: &Questions) -> usize {
        if questions.silent { 1 } else { self.0.most_of_one }
    }

    fn go_on(&self, account: &str, questions: &mut Questions) {
        while questions.under_way < if questions.silent { 1 } else { AT_ONCE } {
            let Some((about, question)) = questions.waiting.pop_front() else { break };
            questions.under_way += 1;
            self.0.tasks.spawn(self.clone().ask(account.to_owned(), about, question));
        }
    }

    async fn ask(self, account: String, about: String, question: BoxFuture<'static, ()>) {
        let begun = Instant::now();
        tokio::select! {
            answered = AssertUnwindSafe(question).catch_unwind() => {
                if answered.is_err() {
                    tracing::error!(about, "a question to a carrier panicked; a later round repeats it");
                }
            }
            () = self.0.stopping.cancelled() => return,
        }
        let mut now = self.lock();
        let now = &mut *now;
        let Some(questions) = now.accounts.get_mut(&account) else { return };
        let before = questions.about.len();
        questions.about.remove(&about);
        questions.under_way -= 1;
        questions.silent = begun.elapsed() >= SILENCE;
        if questions.silent {
            // What waits would be old by the time that its turn came: it is picked again.
            for (about, _) in questions.waiting.drain(..) {
                questions.about.remove(&about);
            }
        }
        now.count -= before - questions.about.len();
        self.go_on(&account, questions);
        if questions.about.is_empty() && !questions.silent {
            now.accounts.remove(&account);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        // Nothing panics while it is locked.
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An account in one word, as the picks write it: two businesses may name the same one, at different addresses.
#[must_use]
pub fn name(business: BusinessId, account: &str) -> String {
    format!("{business} {account}")
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn asked() -> (Asked, TaskTracker, CancellationToken) {
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        (Asked::new(&tasks, &stopping), tasks, stopping)
    }

    /// What is told when the question is asked.
    fn tells(asked: &Asked, business: BusinessId, about: usize) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        assert!(asked.begin(name(business, "AC1"), about, async { tell.send(()).unwrap() }));
        told
    }

    #[tokio::test]
    async fn an_account_that_never_answers_is_asked_so_much_and_delays_no_other() {
        let (asked, tasks, stopping) = asked();
        let [hung, other] = [BusinessId::new(), BusinessId::new()];
        let begun = (0..1_000).filter(|about| asked.begin(name(hung, "AC1"), about, std::future::pending())).count();
        assert_eq!((begun, tasks.len(), asked.about().len()), (MOST_OF_ONE, AT_ONCE, MOST_OF_ONE));
        assert_eq!(asked.full(), [name(hung, "AC1")], "its rows are not picked meanwhile");
        tells(&asked, other, 0).await.unwrap();
        // A process that stops waits for nobody's carrier.
        stopping.cancel();
        asked.ended().await;
        assert!(!asked.begin(name(other, "AC1"), 1, async {}), "and nothing is begun after that");
    }

    #[tokio::test]
    async fn what_a_full_account_has_due_hides_nothing_of_another() {
        let (asked, _tasks, stopping) = asked();
        let [hung, other] = [BusinessId::new(), BusinessId::new()];
        let due = Mutex::new((0..1_000).map(|about| (hung, about)).chain([(other, 1_000)]).collect::<Vec<_>>());
        let pick = |full: Vec<String>| {
            let mut due = due.lock().unwrap();
            // As the ledger does it: whose turn was taken is not picked again.
            let (mut picked, mut left) = (Vec::new(), Vec::new());
            for row in due.drain(..) {
                let takes = picked.len() < 50 && !full.contains(&name(row.0, "AC1"));
                if takes { picked.push(row) } else { left.push(row) }
            }
            *due = left;
            std::future::ready(Ok(picked))
        };
        let begin = |(business, about)| asked.begin(name(business, "AC1"), about, std::future::pending());
        assert_eq!(asked.all_due(50, pick, begin).await.unwrap(), MOST_OF_ONE + 1);
        assert!(asked.about().contains(&"1000".to_owned()), "the other's turn came in the same round");
        stopping.cancel();
        asked.ended().await;
    }

    #[tokio::test]
    async fn the_same_thing_is_asked_about_once_at_a_time_and_again_later() {
        let (asked, ..) = asked();
        let business = BusinessId::new();
        let (answer, answered) = oneshot::channel::<()>();
        assert!(asked.begin(name(business, "AC1"), 7, async { answered.await.unwrap() }));
        assert!(!asked.begin(name(business, "AC1"), 7, async {}));
        answer.send(()).unwrap();
        // The next one is begun only once this one is done with.
        while asked.about() == ["7"] {
            tokio::task::yield_now().await;
        }
        tells(&asked, business, 7).await.unwrap();
        asked.ended().await;
        assert!(asked.lock().accounts.is_empty() && asked.lock().count == 0, "nothing is remembered of what is over");
    }

    #[tokio::test]
    async fn what_waits_is_asked_in_its_turn_and_a_panic_ends_one_question_only() {
        let (asked, ..) = asked();
        let business = BusinessId::new();
        for about in 0..AT_ONCE {
            assert!(asked.begin(name(business, "AC1"), about, async { panic!("on purpose") }));
        }
        let told: Vec<_> = (AT_ONCE..100).map(|about| tells(&asked, business, about)).collect();
        for told in told {
            told.await.unwrap();
        }
        asked.ended().await;
        assert_eq!(asked.lock().count, 0);
    }
}
