//! What a task's tests did in the emulator of GPU kernels: lines in the result stream, and a table of them.
//!
//! A line says nothing about the test that it belongs to. Each task's tests run in a process with a stream of their own, so
//! all lines of a stream are its task's. Kernels that ran on a GPU leave no line.

use std::collections::{BTreeMap, HashMap};

use tinyjson::JsonValue;

use crate::json::Json;
use crate::table::{Align, Cell, Table};

/// Begins the names of kernels that a test wrote for itself, to call one function of the learner's.
const TESTS_OWN: &str = "test_";

/// What the emulator counted in one launch of a kernel. The fields' order is their weight when launches are compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelLaunch {
    /// Bytes of device memory that were read or written, each counted once for reading and once for writing.
    pub touched: u64,
    /// Bytes read from device memory by all threads together.
    pub read: u64,
    /// The same with each byte counted once.
    pub read_distinct: u64,
    pub written: u64,
    /// Threadgroup barriers, summed over threadgroups.
    pub barriers: u64,
    /// Bytes that one threadgroup declares.
    pub threadgroup_memory: u64,
    /// The most lanes that want different words of one bank at once; 0: no access to threadgroup memory was looked at.
    pub bank_conflict: u64,
    /// Threads along each axis.
    pub grid: Vec<u64>,
    /// Threads of a threadgroup along each axis.
    pub threadgroup: Vec<u64>,
    pub kernel: String,
}

/// Of each kernel in the result stream its largest launch, by the kernels' names.
///
/// The largest is the one that touches most memory. That depends on the arrays and hardly on the kernel: the launch stays the same when
/// a better kernel reads each byte less often.
pub fn parse(stream: &str) -> Vec<KernelLaunch> {
    let mut largest: BTreeMap<String, KernelLaunch> = BTreeMap::new();
    let launches = stream.lines().filter_map(launch).filter(|launch| !launch.kernel.starts_with(TESTS_OWN));
    for launch in launches {
        let known = largest.entry(launch.kernel.clone()).or_insert_with(|| launch.clone());
        if *known < launch {
            *known = launch;
        }
    }
    largest.into_values().collect()
}

/// `None` for a comparison's line and for one that was cut short.
fn launch(line: &str) -> Option<KernelLaunch> {
    let value: JsonValue = line.parse().ok()?;
    let object = value.get::<HashMap<String, JsonValue>>()?;
    let number = |key: &str| object.get(key)?.get::<f64>().map(|number| *number as u64);
    let axes = |key: &str| -> Option<Vec<u64>> {
        object.get(key)?.get::<Vec<JsonValue>>()?.iter().map(|n| n.get::<f64>().map(|n| *n as u64)).collect()
    };
    let read_distinct = number("device_bytes_read_distinct")?;
    Some(KernelLaunch {
        touched: read_distinct + number("device_bytes_written_distinct")?,
        read: number("device_bytes_read")?,
        read_distinct,
        written: number("device_bytes_written")?,
        barriers: number("barriers")?,
        threadgroup_memory: number("threadgroup_memory")?,
        bank_conflict: number("worst_bank_conflict")?,
        grid: axes("grid")?,
        threadgroup: axes("threadgroup")?,
        kernel: object.get("kernel")?.get::<String>()?.clone(),
    })
}

/// One row a launch, with the task's number and whose crate it is (that column is left out if `launches` are all of one crate).
/// `None` without launches.
pub fn table(launches: &[(&str, &str, &KernelLaunch)]) -> Option<Table> {
    let (_, first, _) = launches.first()?;
    let is_compared = launches.iter().any(|(_, solution, _)| solution != first);
    let mut columns = vec![("task", Align::Left), ("kernel", Align::Left)];
    if is_compared {
        columns.push(("", Align::Left));
    }
    columns.extend([
        ("grid", Align::Right),
        ("group", Align::Right),
        ("read", Align::Right),
        ("times", Align::Right),
        ("written", Align::Right),
        ("barriers", Align::Right),
        ("memory", Align::Right),
        ("banks", Align::Right),
    ]);
    let mut table = Table::new(&columns);
    for (task, solution, launch) in launches {
        let mut row = vec![Cell::new(*task), Cell::new(&launch.kernel)];
        if is_compared {
            row.push(Cell::new(*solution));
        }
        let unless_zero = |n: u64, text: String| Cell::new(if n == 0 { "-".to_owned() } else { text });
        row.extend([
            Cell::new(extent(&launch.grid)),
            Cell::new(extent(&launch.threadgroup)),
            Cell::new(bytes(launch.read)),
            Cell::new(times(launch)),
            Cell::new(bytes(launch.written)),
            Cell::new(launch.barriers.to_string()),
            unless_zero(launch.threadgroup_memory, bytes(launch.threadgroup_memory)),
            unless_zero(launch.bank_conflict, launch.bank_conflict.to_string()),
        ]);
        table.row(row);
    }
    Some(table)
}

pub fn json(launch: &KernelLaunch) -> Json {
    let number = |n: u64| Json::Number(n as f64);
    let axes = |axes: &[u64]| Json::List(axes.iter().map(|&n| number(n)).collect());
    Json::Object(vec![
        ("kernel", Json::text(&launch.kernel)),
        ("grid", axes(&launch.grid)),
        ("threadgroup", axes(&launch.threadgroup)),
        ("device_bytes_read", number(launch.read)),
        ("device_bytes_read_distinct", number(launch.read_distinct)),
        ("device_bytes_written", number(launch.written)),
        ("barriers", number(launch.barriers)),
        ("threadgroup_memory", number(launch.threadgroup_memory)),
        ("worst_bank_conflict", number(launch.bank_conflict)),
    ])
}

/// `256x4`; axes of one thread at the end are left out.
fn extent(axes: &[u64]) -> String {
    let used = axes.iter().rposition(|&n| n != 1).map_or(1, |last| last + 1);
    axes.iter().take(used).map(u64::to_string).collect::<Vec<_>>().join("x")
}

/// How often a byte that is read at all is read, on average.
fn times(launch: &KernelLaunch) -> String {
    match launch.read_distinct {
        0 => "-".to_owned(),
        distinct => format!("{:.1}", launch.read as f64 / distinct as f64),
    }
}

/// `96 B`, `12.4 KiB`, `366 KiB`.
fn bytes(n: u64) -> String {
    const KIB: f64 = 1024.0;
    let (n, unit) = match n as f64 {
        n if n < KIB => return format!("{n} B"),
        n if n < KIB * KIB => (n / KIB, "KiB"),
        n => (n / (KIB * KIB), "MiB"),
    };
    let n_decimals = usize::from(n < 100.0);
    format!("{n:.n_decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::Style;

    fn line(kernel: &str, read: u64, distinct: u64, barriers: u64) -> String {
        format!(
            "{{\"kernel\":\"{kernel}\",\"grid\":[64, 2, 1],\"threadgroup\":[32, 1, 1],\"device_bytes_read\":{read},\
             \"device_bytes_read_distinct\":{distinct},\"device_bytes_written\":256,\"device_bytes_written_distinct\":256,\
             \"barriers\":{barriers},\"threadgroup_memory\":{},\"worst_bank_conflict\":{}}}\n",
            24 * barriers,
            barriers / 2
        )
    }

    #[test]
    fn the_largest_launch_of_each_kernel_whatever_the_order() {
        let comparison = "{\"test\":\"a\",\"case\":\"s/x\",\"status\":\"pass\",\"headroom\":0.9}\n";
        // The second reads more, but of smaller arrays.
        let lines = [line("b", 4096, 1024, 0), line("b", 9999, 512, 0), line("a", 64, 64, 4), comparison.to_owned()];
        let left_out = line("test_a", 64, 64, 4) + "{\"kernel\":\"c\",\"gri";
        let launches = parse(&(lines.concat() + &left_out));
        let found: Vec<(&str, u64)> = launches.iter().map(|launch| (launch.kernel.as_str(), launch.read)).collect();
        assert_eq!(found, [("a", 64), ("b", 4096)]);
        assert_eq!((launches[0].touched, launches[0].barriers, launches[0].bank_conflict), (320, 4, 2));
        assert_eq!(
            (launches[0].grid.as_slice(), launches[0].threadgroup.as_slice()),
            (&[64, 2, 1][..], &[32, 1, 1][..])
        );
        let reversed: String = lines.iter().rev().map(String::as_str).collect();
        assert_eq!(parse(&reversed), launches);
        assert!(parse(comparison).is_empty());
    }

    #[test]
    fn a_table_of_one_crate_and_of_two() {
        let launches = parse(&(line("b", 4096, 1024, 0) + &line("a", 3 << 20, 2000, 4)));
        let mine: Vec<_> = launches.iter().map(|launch| ("2.3.1", "student", launch)).collect();
        assert_eq!(
            table(&mine).unwrap().render(Style::plain()),
            "  task   kernel  grid  group     read   times  written  barriers  memory  banks\n\
             \x20 2.3.1  a       64x2     32  3.0 MiB  1572.9    256 B         4    96 B      2\n\
             \x20 2.3.1  b       64x2     32  4.0 KiB     4.0    256 B         0       -      -\n"
        );
        let both = [mine[0], ("2.3.1", "reference", &launches[0])];
        let text = table(&both).unwrap().render(Style::plain());
        assert!(text.contains("2.3.1  a       student    64x2") && text.contains("a       reference  64x2"), "{text}");
        assert!(table(&[]).is_none());
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!((extent(&[1, 1, 1]), extent(&[8, 1, 4])), ("1".to_owned(), "8x1x4".to_owned()));
        let sizes = [0, 1023, 1536, 366 * 1024, 5 << 19].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.5 KiB", "366 KiB", "2.5 MiB"]);
    }

    #[test]
    fn json_reads_back() {
        let launches = parse(&line("a", 4096, 1024, 4));
        let value: JsonValue = json(&launches[0]).to_string().parse().unwrap();
        assert_eq!(*value["device_bytes_read"].get::<f64>().unwrap(), 4096.0);
        assert_eq!(*value["grid"][1].get::<f64>().unwrap(), 2.0);
    }
}
