//! How each step of a plan is done to the installation, and how all of them are undone.

use std::{io::Write, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use nix::{sys::signal::Signal, unistd::geteuid};
use rollcall::{
    ops::{
        children::Stop,
        private::{POSTGRES, REDIS},
    },
    sim::Faults,
};
use tokio::time::Instant;

use crate::{
    client::now_ms,
    kills::How,
    plan::{Act, BEYOND_GRACE, Road},
    proxy::Weather,
    site::{ALL, Site, Then, Who},
    storm,
    trial::Trial,
};

/// What the small disk has room for besides an empty database, MiB.
const SPARE_MIB: u64 = 64;

/// What is missing for a trial, if anything is: then it is skipped, and says so.
pub(crate) fn missing(plan: &crate::plan::Plan) -> Option<&'static str> {
    let clocks = plan.steps.iter().any(|step| matches!(step.act, Act::Clock(..)));
    if clocks && faketime().is_none() {
        return Some("libfaketime is not installed");
    }
    (plan.small_disk && !geteuid().is_root()).then_some("only root can mount a small disk")
}

/// The library that shows a program another time, where Debian puts it.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}

impl Trial {
    /// Does one step.
    pub(crate) async fn act(&mut self, act: &Act) -> anyhow::Result<()> {
        match act {
            Act::Kill(who) => self.site.kill(*who)?,
            Act::Freeze(who) => self.site.signal(who.name(), Signal::SIGSTOP)?,
            Act::Thaw(who) => self.site.signal(who.name(), Signal::SIGCONT)?,
            Act::ThawLate(who) => {
                self.comes_to(*who, How::Freeze).await?;
                self.tend_until(Instant::now() + Duration::from_secs_f64(BEYOND_GRACE)).await?;
                self.site.signal(who.name(), Signal::SIGCONT)?;
            }
            Act::Roll(who) => self.site.terminate(*who, Then::Another).await?,
            Act::Leave(who) => self.site.terminate(*who, Then::Nothing).await?,
            Act::Join(who) => self.site.start(*who)?,
            Act::Weather(road, weather) => self.road(*road).set(*weather),
            Act::Creates(rules) => self.faults(|faults| faults.create.clone_from(rules)).await?,
            Act::Callbacks(rules) => self.faults(|faults| faults.callback.clone_from(rules)).await?,
            Act::HangUps(rules) => self.faults(|faults| faults.update.clone_from(rules)).await?,
            Act::Looks(rules) => {
                self.faults(|faults| {
                    faults.list.clone_from(rules);
                    faults.fetch.clone_from(rules);
                })
                .await?;
            }
            Act::Storm { per_second, secs } => self.blow(*per_second, *secs),
            // Where Redis is away just now, there is no queue to poison.
            Act::Poison(count) => drop(self.poison(*count).await),
            Act::Crowd(count) => self.client.crowd(&self.tenants[0], *count).await,
            Act::Ops(words) => drop(self.site.ops(words).await?),
            Act::Weigh => self.weigh().await?,
            Act::Phase(name) => self.marks.phases.push((now_ms(), name)),
            Act::Clock(who, offset) => self.clock(*who, offset).await?,
            Act::ClockJump(offset) => std::fs::write(self.clock_file(), offset)?,
            Act::DiskFill => self.fill()?,
            Act::DiskFree => self.free()?,
            store => self.store(store).await?,
        }
        Ok(())
    }

    async fn store(&mut self, act: &Act) -> anyhow::Result<()> {
        let runs = |site: &mut Site, name: &str| site.stores.children().runs(name);
        match act {
            Act::RedisKill if runs(&mut self.site, REDIS)? => self.site.stores.children().kill(REDIS)?,
            Act::RedisForget => drop(std::fs::remove_dir_all(self.redis_folder().join("appendonlydir"))),
            Act::RedisKeep => copy(&self.redis_folder().join("appendonlydir"), &self.redis_folder().join("kept"))?,
            Act::RedisRecall => {
                drop(std::fs::remove_dir_all(self.redis_folder().join("appendonlydir")));
                copy(&self.redis_folder().join("kept"), &self.redis_folder().join("appendonlydir"))?;
            }
            Act::RedisStart if !runs(&mut self.site, REDIS)? => {
                self.site.stores.start_redis().await?;
                self.marks.back.push(now_ms());
            }
            Act::RedisFreeze => self.site.signal(REDIS, Signal::SIGSTOP)?,
            Act::RedisThaw => {
                self.site.signal(REDIS, Signal::SIGCONT)?;
                self.marks.back.push(now_ms());
            }
            Act::RedisFlush => {
                let client = redis::Client::open(self.site.stores.redis_url())?;
                let mut redis = client.get_multiplexed_async_connection().await?;
                redis::cmd("FLUSHALL").query_async::<()>(&mut redis).await?;
                self.marks.back.push(now_ms());
            }
            Act::PostgresStop(stop) if runs(&mut self.site, POSTGRES)? => {
                self.site.stores.children().stop(POSTGRES, *stop).await?;
            }
            Act::PostgresStart if !runs(&mut self.site, POSTGRES)? => {
                self.site.stores.start_postgres().await?;
                self.marks.back.push(now_ms());
            }
            // What is so already.
            _ => {}
        }
        Ok(())
    }

    /// Ends every fault.
    pub(crate) async fn heal(&mut self) -> anyhow::Result<()> {
        for road in [Road::Door, Road::Postgres, Road::Redis, Road::Carrier] {
            self.road(road).set(Weather::default());
        }
        self.faults(|faults| *faults = Faults::default()).await?;
        self.free()?;
        self.site.signal(REDIS, Signal::SIGCONT)?;
        for act in [Act::RedisStart, Act::PostgresStart] {
            self.store(&act).await?;
        }
        for who in ALL {
            self.site.signal(who.name(), Signal::SIGCONT)?;
        }
        self.site.tend()
    }

    fn road(&self, road: Road) -> &crate::proxy::Proxy {
        match road {
            Road::Door => &self.site.door,
            Road::Postgres => &self.site.to_postgres,
            Road::Redis => &self.site.to_redis,
            Road::Carrier => &self.site.to_carrier,
        }
    }

    async fn faults(&mut self, change: impl FnOnce(&mut Faults)) -> anyhow::Result<()> {
        change(&mut self.faults);
        self.site.set_faults(&self.faults).await
    }

    fn blow(&mut self, per_second: u32, secs: u32) {
        let pids = self.site.api_pids();
        self.memory_before = Some(storm::memory_mib(&pids));
        let door = format!("http://{}", self.site.door.addr);
        let weather =
            storm::weather(self.site.carrier_url(""), door, &self.tenants, &self.client, self.plan.terms.seed);
        self.storm = Some(tokio::spawn(weather.blow(per_second, Duration::from_secs(u64::from(secs)))));
    }

    /// Tasks without data, with data that is no JSON, with JSON that is no bell, and one of 1 MiB.
    async fn poison(&mut self, count: usize) -> anyhow::Result<()> {
        let config = apalis_redis::Config::default().queue("dial");
        let client = redis::Client::open(self.site.stores.redis_url())?;
        let mut redis = client.get_multiplexed_async_connection().await?;
        for n in 0..count {
            let id = format!("poison:{n}");
            let data = match n % 4 {
                0 => None,
                1 => Some("{ this is no JSON".to_owned()),
                2 => Some(r#"{"business": 7, "nobody": null}"#.to_owned()),
                _ if n == 3 => Some(format!("\"{}\"", "x".repeat(1 << 20))),
                _ => Some("[]".to_owned()),
            };
            let mut pipe = redis::pipe();
            if let Some(data) = data {
                pipe.hset(config.job_data_hash(), &id, data).ignore();
            }
            pipe.rpush(config.active_jobs_list(), &id).ignore().rpush("bells:wake", 1).ignore();
            pipe.query_async::<()>(&mut redis).await?;
        }
        Ok(())
    }

    fn clock_file(&mut self) -> PathBuf {
        self.site.stores.children().scratch().join("clock")
    }

    /// Another worker in its place, whose wall clock is off. Its steady clock is not: that one no administrator can set.
    async fn clock(&mut self, who: Who, offset: &str) -> anyhow::Result<()> {
        let file = self.clock_file();
        std::fs::write(&file, offset)?;
        let extra = vec![
            ("LD_PRELOAD", text(&faketime().context("libfaketime is not installed")?)),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        self.site.equip(who, extra);
        self.site.terminate(who, Then::Another).await
    }

    fn redis_folder(&mut self) -> PathBuf {
        self.site.stores.children().scratch().join(REDIS)
    }

    /// Moves the data of Postgres to a file system of its own that is little larger. It is taken out of the tree of folders at
    /// once, so that it goes with Postgres, however that ends.
    pub(crate) async fn shrink_disk(site: &mut Site) -> anyhow::Result<()> {
        let scratch = site.stores.children().scratch().to_owned();
        site.stores.children().stop(POSTGRES, Stop::Interrupt).await?;
        let (data, disk) = (scratch.join(POSTGRES), scratch.join("disk"));
        std::fs::create_dir(&disk)?;
        let used = String::from_utf8(output("du", &["-sm", &text(&data)])?)?;
        let used: u64 = used.split_whitespace().next().context("du says nothing")?.parse()?;
        output(
            "mount",
            &["-t", "tmpfs", "-o", &format!("size={}m,mode=0777", used + SPARE_MIB), "tmpfs", &text(&disk)],
        )?;
        output("cp", &["-a", &text(&data), &text(&disk.join(POSTGRES))])?;
        std::fs::remove_dir_all(&data)?;
        std::os::unix::fs::symlink(disk.join(POSTGRES), &data)?;
        let started = site.stores.start_postgres().await;
        output("umount", &["-l", &text(&disk)])?;
        started
    }

    fn filler(&mut self) -> anyhow::Result<PathBuf> {
        // Postgres works in its data folder, which nobody else can name any more.
        let pid = self.site.stores.children().pid(POSTGRES).context("Postgres does not run")?;
        Ok(PathBuf::from(format!("/proc/{pid}/cwd/filler")))
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        let mut file = std::fs::File::create(self.filler()?)?;
        let block = vec![0_u8; 64 * 1024];
        while file.write_all(&block).is_ok() {}
        self.filled = true;
        Ok(())
    }

    fn free(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.filled) {
            std::fs::remove_file(self.filler()?)?;
            self.marks.back.push(now_ms());
        }
        Ok(())
    }
}

fn text(path: &std::path::Path) -> String {
    path.display().to_string()
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> anyhow::Result<()> {
    drop(std::fs::remove_dir_all(to));
    output("cp", &["-a", &text(from), &text(to)]).map(drop)
}

fn output(program: &str, words: &[&str]) -> anyhow::Result<Vec<u8>> {
    let output = std::process::Command::new(program).args(words).output()?;
    ensure!(output.status.success(), "{program} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
