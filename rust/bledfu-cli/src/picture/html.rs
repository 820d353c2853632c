// SPDX-License-Identifier: Apache-2.0
//! The page: HTML, style and drawings in one file, nothing from a network, and no script.

use std::fmt::Write as _;

use super::{Lane, Run, SlotMap, Table};

/// Colours for light and dark, and a layout for phone and desktop.
const STYLE: &str = include_str!("page.css");

/// Height of a lane in units of its drawing.
const HEIGHT: f32 = 40.0;

/// The page of a run; with another one, both side by side.
pub fn page(run: &Run, other: Option<&Run>) -> String {
    let mut body = String::new();
    let scale = other.map_or(run.total_s, |other| run.total_s.max(other.total_s));
    match other {
        None => section(&mut body, run, scale),
        Some(other) => {
            compared(&mut body, run, other);
            body.push_str("<div class=\"pair\">");
            section(&mut body, run, scale);
            section(&mut body, other, scale);
            body.push_str("</div>");
        }
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n{body}</main>\n<footer>Made by bledfu {}. This page loads nothing from a network.</footer>\n\
         </body>\n</html>\n",
        escaped(&run.title),
        env!("CARGO_PKG_VERSION")
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn section(body: &mut String, run: &Run, scale: f64) {
    let _ = writeln!(body, "<section class=\"run\">\n<h1>{}</h1>", escaped(&run.title));
    if !run.facts.is_empty() {
        body.push_str("<dl>\n");
        for (name, value) in &run.facts {
            let _ = writeln!(body, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(value));
        }
        body.push_str("</dl>\n");
    }
    shares(body, run, scale);
    timeline(body, run, scale);
    for map in &run.slots {
        slot(body, map);
    }
    if !run.slots.is_empty() {
        body.push_str(
            "<p class=\"key\"><span><i class=\"cell\"></i> untouched</span> <span><i class=\"cell e1\"></i> erased</span> \
             <span><i class=\"cell p1\"></i> programmed</span> <span><i class=\"cell p2\"></i> programmed, erased more than once</span></p>\n",
        );
    }
    for table in &run.tables {
        self::table(body, table);
    }
    body.push_str("</section>\n");
}

/// Where the seconds went.
fn shares(body: &mut String, run: &Run, scale: f64) {
    let total: f64 = run.seconds.iter().map(|(_, seconds)| seconds).sum();
    if total <= 0.0 {
        return;
    }
    let width = if scale > 0.0 { total / scale * 100.0 } else { 100.0 };
    let _ = writeln!(
        body,
        "<h2>Where {total:.1} seconds went</h2>\n<div class=\"bar\" style=\"width:{:.2}%\">",
        width.min(100.0)
    );
    // What took no time is not in the legend, and each share keeps its colour.
    let shares = || {
        let shares = run.seconds.iter().enumerate();
        shares.filter(|(_, (_, seconds))| *seconds >= 0.005)
    };
    for (index, (name, seconds)) in shares() {
        let _ = write!(
            body,
            "<i class=\"s{index}\" style=\"flex-grow:{:.4}\" title=\"{}: {seconds:.2} s\"></i>",
            seconds / total * 1000.0,
            escaped(name)
        );
    }
    body.push_str("</div>\n<ul class=\"legend\">\n");
    for (index, (name, seconds)) in shares() {
        let _ = writeln!(
            body,
            "<li><i class=\"s{index}\"></i>{} <b>{seconds:.2} s</b></li>",
            escaped(name)
        );
    }
    body.push_str("</ul>\n");
}

/// The lanes; beside another run both have one scale.
fn timeline(body: &mut String, run: &Run, scale: f64) {
    if run.lanes.is_empty() || run.total_s <= 0.0 {
        return;
    }
    let _ = writeln!(
        body,
        "<h2>Lanes over time</h2>\n<div class=\"lanes\" style=\"width:{:.2}%\">",
        (run.total_s / scale * 100.0).min(100.0)
    );
    for lane in &run.lanes {
        let _ = writeln!(
            body,
            "<div class=\"lane\"><p><b>{}</b> {}</p>{}</div>",
            escaped(&lane.name),
            escaped(&lane.note),
            drawing(lane, run)
        );
    }
    axis(body, run.total_s);
    body.push_str("</div>\n");
    if !run.moments.is_empty() {
        body.push_str("<ol class=\"moments\">\n");
        for (at, what) in &run.moments {
            let _ = writeln!(body, "<li><b>{at:.2} s</b> {}</li>", escaped(what));
        }
        body.push_str("</ol>\n");
    }
}

fn drawing(lane: &Lane, run: &Run) -> String {
    let steps = lane.values.len().max(1);
    let mut path = format!("M0 {HEIGHT}");
    for (step, value) in lane.values.iter().enumerate() {
        let top = HEIGHT - value.clamp(0.0, 1.0) * (HEIGHT - 2.0);
        let _ = write!(path, "V{top:.1}H{}", step + 1);
    }
    let _ = write!(path, "V{HEIGHT}Z");
    let mut marks = String::new();
    for (at, what) in &run.moments {
        let x = at / run.total_s * steps as f64;
        let kind = if what.contains("cut") || what.contains("lost") {
            "bad"
        } else {
            "plain"
        };
        let _ = write!(
            marks,
            "<path class=\"{kind}\" d=\"M{x:.1} 0V{HEIGHT}\" vector-effect=\"non-scaling-stroke\"><title>{at:.2} s: {}</title></path>",
            escaped(what)
        );
    }
    format!(
        "<svg viewBox=\"0 0 {steps} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\"><path class=\"fill {}\" \
         d=\"{path}\"/>{marks}</svg>",
        escaped(&lane.name),
        lane.name.split(' ').next().unwrap_or_default()
    )
}

/// Seconds below the lanes, at a round distance.
fn axis(body: &mut String, total_s: f64) {
    let round = [
        0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    ];
    let distance = round
        .into_iter()
        .find(|distance| total_s / distance <= 6.0)
        .unwrap_or(3600.0);
    body.push_str("<div class=\"axis\">");
    let mut at = 0.0;
    while at < total_s * 0.97 {
        let digits = usize::from(distance < 1.0);
        let _ = write!(
            body,
            "<span style=\"left:{:.2}%\">{at:.digits$} s</span>",
            at / total_s * 100.0
        );
        at += distance;
    }
    body.push_str("</div>\n");
}

fn slot(body: &mut String, map: &SlotMap) {
    let sectors = map.sectors.len();
    let erases: u32 = map.sectors.iter().map(|(erases, _)| erases).sum();
    let bytes: u64 = map.sectors.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
    let _ = writeln!(
        body,
        "<h2>{}</h2>\n<p class=\"note\">{sectors} sectors of {} KiB; {erases} sector erases, {} KiB programmed</p>\n<div class=\"map\">",
        escaped(&map.name),
        map.sector_size / 1024,
        bytes / 1024
    );
    for (index, (erases, bytes)) in map.sectors.iter().enumerate() {
        let kind = match (*erases, *bytes) {
            (0, 0) => "",
            (_, 0) => " e1",
            (0 | 1, _) => " p1",
            (_, _) => " p2",
        };
        let _ = write!(
            body,
            "<span class=\"cell{kind}\" title=\"sector {index}: {erases} erases, {bytes} bytes programmed\"></span>"
        );
    }
    body.push_str("</div>\n");
}

fn table(body: &mut String, table: &Table) {
    let number = |cell: &String| cell.trim().trim_end_matches([' ', 's']).parse::<f64>().ok();
    let most = table.bars.map_or(0.0, |column| {
        let cells = table.rows.iter().filter_map(|row| row.get(column));
        cells.filter_map(number).fold(0.0, f64::max)
    });
    let _ = writeln!(
        body,
        "<h2>{}</h2>\n<div class=\"scroll\"><table>\n<tr>",
        escaped(&table.title)
    );
    for column in &table.columns {
        let _ = write!(body, "<th>{}</th>", escaped(column));
    }
    body.push_str("</tr>\n");
    for row in &table.rows {
        body.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let value = number(cell);
            let class = if value.is_some() { " class=\"n\"" } else { "" };
            let _ = write!(body, "<td{class}>{}", escaped(cell));
            if let (Some(value), true) = (value.filter(|_| most > 0.0), table.bars == Some(column)) {
                let _ = write!(body, "<i style=\"width:{:.1}%\"></i>", value / most * 100.0);
            }
            body.push_str("</td>");
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</table></div>\n");
}

/// The seconds of two runs beside each other.
fn compared(body: &mut String, run: &Run, other: &Run) {
    if run.seconds.is_empty() || other.seconds.is_empty() {
        return;
    }
    let sum = |run: &Run| run.seconds.iter().map(|(_, seconds)| seconds).sum::<f64>();
    let mut rows: Vec<(String, f64, f64)> = run
        .seconds
        .iter()
        .map(|(name, seconds)| {
            let there = other.seconds.iter().find(|(found, _)| found == name);
            (name.clone(), *seconds, there.map_or(0.0, |(_, seconds)| *seconds))
        })
        .collect();
    rows.push(("together".to_owned(), sum(run), sum(other)));
    body.push_str("<section class=\"run\">\n<h1>Two runs</h1>\n<div class=\"scroll\"><table>\n<tr><th></th>");
    for run in [run, other] {
        let _ = write!(body, "<th>{}</th>", escaped(&run.title));
    }
    body.push_str("<th>difference</th></tr>\n");
    for (name, here, there) in rows {
        let _ = writeln!(
            body,
            "<tr><td>{}</td><td class=\"n\">{here:.2} s</td><td class=\"n\">{there:.2} s</td><td class=\"n\">{:+.2} s</td></tr>",
            escaped(&name),
            there - here
        );
    }
    body.push_str("</table></div>\n</section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(title: &str) -> Run {
        Run {
            title: title.to_owned(),
            facts: vec![("part".to_owned(), "a <b> & c".to_owned())],
            total_s: 12.0,
            seconds: vec![("air".to_owned(), 9.0), ("flash".to_owned(), 3.0)],
            lanes: vec![Lane {
                name: "external flash".to_owned(),
                note: "busy".to_owned(),
                values: vec![0.0, 0.5, 1.0],
            }],
            moments: vec![(6.0, "the power is cut".to_owned())],
            slots: vec![SlotMap {
                name: "secondary slot".to_owned(),
                sector_size: 4096,
                sectors: vec![(0, 0), (1, 0), (1, 4096), (2, 4096)],
            }],
            tables: vec![Table {
                title: "installs".to_owned(),
                columns: vec!["kind".to_owned(), "seconds".to_owned()],
                rows: vec![
                    vec!["swap".to_owned(), "4".to_owned()],
                    vec!["copy".to_owned(), "2".to_owned()],
                ],
                bars: Some(1),
            }],
        }
    }

    #[test]
    fn a_page_needs_nothing_else_and_its_texts_are_escaped() {
        let page = page(&run("one <run>"), None);
        assert!(page.starts_with("<!DOCTYPE html>"));
        for outside in ["http://", "https://", "src=", "<script", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("one &lt;run&gt;") && page.contains("a &lt;b&gt; &amp; c"));
        assert!(page.contains("prefers-color-scheme: dark"));
        assert!(page.contains("Where 12.0 seconds went"));
        assert!(
            page.contains("class=\"bad\" d=\"M1.5 0V40\""),
            "the cut is half way"
        );
        assert!(page.contains("<span class=\"cell p2\" title=\"sector 3: 2 erases"));
        assert!(page.contains("<i style=\"width:50.0%\"></i>"));
    }

    #[test]
    fn two_runs_share_a_scale_and_a_table() {
        let mut slow = run("slow");
        slow.total_s = 24.0;
        slow.seconds[0].1 = 21.0;
        let page = page(&run("fast"), Some(&slow));
        assert!(page.contains("<td>air</td><td class=\"n\">9.00 s</td><td class=\"n\">21.00 s</td><td class=\"n\">+12.00 s</td>"));
        assert!(page.contains("style=\"width:50.00%\"") && page.contains("style=\"width:100.00%\""));
    }
}
