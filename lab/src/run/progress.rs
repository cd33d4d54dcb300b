//! What a person sees while it runs: progress on stderr, one line per act on stdout, the bill at the end.

use super::act::Played;
use crate::report::model::{Report, Verdict};
use crate::scenario::plan::Act;
use std::io::{IsTerminal, Write};
use std::path::Path;

/// Writes to a terminal in place, to anything else line by line and only what matters.
pub struct Progress {
    terminal: bool,
}

impl Progress {
    pub fn new() -> Progress {
        Progress { terminal: std::io::stderr().is_terminal() }
    }

    /// A passing remark.
    pub fn say(&self, text: &str) {
        self.passing(text);
    }

    pub fn act_begins(&self, number: usize, of: usize, act: &Act) {
        if !self.terminal {
            eprintln!("act {number} of {of}: {}", act.title);
        }
    }

    pub fn phase(&self, act: &Act, what: &str) {
        self.passing(&format!("{}: {what}", act.title));
    }

    pub fn tick(&self, act: &Act, ms: u64, mbps: f64) {
        if self.terminal {
            let seconds = ms as f64 / 1e3;
            self.passing(&format!("{}  {seconds:5.1} s   line {mbps:5.1} Mbit/s", act.title));
        }
    }

    /// The act's one line.
    pub fn act_ends(&self, number: usize, played: &Played) {
        self.clear();
        let good = played.checked.iter().all(|checked| checked.holds);
        println!("{} {number}. {}", if good { "✔" } else { "✘" }, played.sentence);
        for checked in played.checked.iter().filter(|checked| !checked.holds) {
            println!("     {}: {}", checked.text, checked.found_text());
        }
    }

    /// The bill, the verdict, and where to look.
    pub fn closing(&self, report: &Report, out: &Path) {
        self.clear();
        let paid = report.acts.iter().find(|act| act.role.as_deref() == Some("paid"));
        let bought = paid.and_then(|act| act.flows.iter().find_map(|flow| flow.purchase.as_ref()));
        if let Some(bought) = bought {
            println!(
                "\nThe bill of act {:?}, recomputed from the API's answers alone:",
                paid.map_or("", |a| &a.name)
            );
            for line in bought.bill.text.lines() {
                println!("  {line}");
            }
        }
        if let Some(left) = report.rules_left {
            println!("\nRules left in the kernel: {left}");
        }
        let honesty = &report.honesty;
        println!(
            "The lab's own lateness: p50 {:.2} ms, p99 {:.2} ms (allowed {:.2}), worst {:.1} ms",
            honesty.p50_ms, honesty.p99_ms, honesty.p99_allowed_ms, honesty.max_ms
        );
        match report.verdict {
            Verdict::Pass => println!("PASS in {:.0} s", report.took_s),
            Verdict::Failed => println!("FAILED: an expectation did not hold"),
            Verdict::Degraded => println!(
                "DEGRADED: this host was too busy to judge ({})",
                if honesty.stalls.is_empty() {
                    "late throughout"
                } else {
                    "it stalled inside a measured window"
                }
            ),
        }
        println!("Report: {}", out.join("report.html").display());
    }

    fn passing(&self, text: &str) {
        if self.terminal {
            eprint!("\r\x1b[2K{text}");
            let _ = std::io::stderr().flush();
        }
    }

    fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[2K");
            let _ = std::io::stderr().flush();
        }
    }
}
