//! Files of leads: whatever arrives is read, rejected by line, or refused with a reason.

use std::io;

use proptest::prelude::*;
use rollcall::leads::{Batch, CsvLeads, FileError, NumberRules};
use serde_json::json;

fn rules() -> NumberRules {
    NumberRules::new("US".parse().unwrap())
}

/// Reads a file in batches of `max` rows, its bytes arriving `chunk` at a time.
async fn read_chunked(file: &[u8], chunk: usize, max: usize) -> Result<Batch, FileError> {
    let chunks = file.chunks(chunk.max(1)).map(Ok::<_, io::Error>);
    let upload = tokio_util::io::StreamReader::new(futures::stream::iter(chunks));
    let mut list = CsvLeads::open(upload, rules()).await?;
    let mut all = Batch::default();
    while let Some(mut batch) = list.next_batch(max).await? {
        assert!((1..=max).contains(&batch.rows()));
        all.leads.append(&mut batch.leads);
        all.rejected.append(&mut batch.rejected);
    }
    Ok(all)
}

async fn read(file: impl AsRef<[u8]>) -> Batch {
    read_chunked(file.as_ref(), 1 << 20, 1000).await.unwrap()
}

async fn refused(file: impl AsRef<[u8]>) -> (&'static str, String) {
    match read_chunked(file.as_ref(), 1 << 20, 1000).await {
        Err(FileError::Refused { code, detail }) => (code, detail),
        other => panic!("not refused: {other:?}"),
    }
}

fn rejections(batch: &Batch) -> Vec<(u64, Option<&str>, &str)> {
    batch.rejected.iter().map(|r| (r.line, r.column.as_deref(), r.code.as_ref())).collect()
}

fn lines(batch: &Batch) -> Vec<u64> {
    batch.leads.iter().map(|(line, _)| *line).collect()
}

#[tokio::test]
async fn a_real_life_file_is_read_with_its_variables() {
    let file = "\u{feff} Phone ,First Name,External_ID,time_zone,PRIORITY,not_before,Not_After\r\n\
        (212) 555-0137 x9,\"Ada \"\"A\"\" Lovell, Jr.\", crm-1 ,Europe/Berlin, -5 ,2030-05-31T09:00:00-04:00, 2030-05-31T14:30:00z \r\n\
        \r\n\
        +44 20 7946 0123,\"two\r\nlines\",,,,,\r\n\
        303-555-0166,Zoë,,,,,";
    for chunk in [1, 2, 3, 7, 4096] {
        let batch = read_chunked(file.as_bytes(), chunk, 2).await.unwrap();
        assert_eq!((lines(&batch), rejections(&batch)), (vec![2, 4, 6], vec![]), "in chunks of {chunk}");
        let lead = &batch.leads[0].1;
        assert_eq!((lead.to.as_str(), lead.external_id.as_deref(), lead.priority), ("+12125550137", Some("crm-1"), -5));
        assert_eq!(lead.time_zone, Some(chrono_tz::Europe::Berlin));
        let times = [lead.not_before, lead.not_after].map(|time| time.unwrap().to_rfc3339());
        assert_eq!(times, ["2030-05-31T13:00:00+00:00", "2030-05-31T14:30:00+00:00"]);
        let named = json!({"First Name": "Ada \"A\" Lovell, Jr.", "extension": "9"});
        assert_eq!(serde_json::Value::from(lead.variables.clone()), named);
        assert_eq!(batch.leads[1].1.variables["First Name"], "two\r\nlines");
        let last = &batch.leads[2].1;
        assert_eq!((last.external_id.as_deref(), last.time_zone, last.not_after), (None, None, None));
    }
}

#[tokio::test]
async fn an_extension_column_of_its_own_is_kept_and_an_empty_one_is_filled() {
    let batch = read("to,extension\n2125550137 x9,7\n2125550138 x9,\n2125550139,").await;
    let extensions: Vec<_> = batch.leads.iter().map(|(_, lead)| lead.variables["extension"].clone()).collect();
    assert_eq!(extensions, ["7", "9", ""]);
}

#[tokio::test]
async fn a_header_without_rows_is_a_list_of_none() {
    for file in ["phone", "to\n", "\u{feff}to,a\r\n\r\n\r\n", "\n\nto"] {
        assert_eq!(read(file).await, Batch::default(), "{file:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_list_is_refused_as_a_whole_with_what_to_do() {
    let utf16: Vec<u8> = "phone\n1".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let long = format!("to,{}", "x".repeat(65 * 1024));
    let wide = format!("to{}", ",x".repeat(600));
    let quote = format!("to,\"{}", "a,\n".repeat(50_000));
    let cases: [(&[u8], &str); 23] = [
        (b"", "empty"),
        (b"\r\n\n\r", "empty"),
        ("\u{feff}".as_bytes(), "empty"),
        (b"phone;name\n1;2", "wrong_delimiter"),
        (b"phone\tname\n1\t2", "wrong_delimiter"),
        (b"phone|name\n1|2", "wrong_delimiter"),
        (b"name,company\na,b", "no_phone_column"),
        (b"2125550137\n2125550138", "no_phone_column"),
        (b"to,phone\n1,2", "ambiguous_phone_column"),
        (b"Phone,PHONE\n1,2", "ambiguous_phone_column"),
        (b"to,name,name\n1,2,3", "duplicate_column"),
        (b"to,priority,Priority\n1,2,3", "duplicate_column"),
        (b"to,\"two\nlines\"\n1,2", "invalid_name"),
        (b"to,na\xffme\n1,2", "invalid_utf8"),
        (b"\xff\xfet\0o\0", "utf16"),
        (b"\xfe\xff\0t\0o", "utf16"),
        (&utf16, "utf16"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"PK\x03\x04rest", "spreadsheet"),
        (b"\xd0\xcf\x11\xe0rest", "spreadsheet"),
        (long.as_bytes(), "header_too_large"),
        (wide.as_bytes(), "too_many_columns"),
        (quote.as_bytes(), "unclosed_quote"),
    ];
    for (file, expected) in cases {
        let (code, detail) = refused(file).await;
        assert_eq!(code, expected, "{:?}", String::from_utf8_lossy(&file[..file.len().min(40)]));
        assert!(detail.ends_with('.') && detail.len() < 2000, "{detail}");
    }
}

#[tokio::test]
async fn a_bad_row_is_rejected_by_its_line_and_the_rest_goes_on() {
    let mut file = b"phone,name,priority,time_zone,\n".to_vec();
    file.extend(b"2125550137,a,,,\n"); // 2
    file.extend(b"2125550137,b\n"); // 3
    file.extend(b"2125550137,\"c\nc\nc\",,,,x\n"); // 4 to 6
    file.extend(b"2125550137,caf\xe9,,,\n"); // 7
    file.extend(b"2125550137,a,high,,\n"); // 8
    file.extend(b"2125550137,a,1001,,\n"); // 9
    file.extend(b"2125550137,a,99999999999999999999,,\n"); // 10
    file.extend(b"2125550137,a,,Mars/Base,\n"); // 11
    file.extend(b"2125550137,a\0,,,\n"); // 12
    file.extend(b"2125550137,a,,,stray\n"); // 13
    file.extend(b",,,,\n"); // 14
    file.extend(b"911,a,,,\n"); // 15
    file.extend(b"2125550138,a,7,,\n"); // 16
    let batch = read(&file).await;
    let expected = [
        (3, None, "too_few_cells"),
        (4, None, "too_many_cells"),
        (7, Some("name"), "invalid_utf8"),
        (8, Some("priority"), "invalid_priority"),
        (9, Some("priority"), "invalid_priority"),
        (10, Some("priority"), "invalid_priority"),
        (11, Some("time_zone"), "unknown_time_zone"),
        (12, Some("name"), "nul_character"),
        (13, Some(""), "unnamed_column"),
        (14, Some("phone"), "missing_number"),
        (15, Some("phone"), "emergency_number"),
    ];
    assert_eq!((rejections(&batch), lines(&batch)), (expected.to_vec(), vec![2, 16]));
}

#[tokio::test]
async fn a_time_without_an_offset_or_out_of_order_rejects_its_row_and_says_what_to_write() {
    let batch = read(
        "to,not_before,not_after\n2125550137,2030-05-31 09:00:00,\n2125550137,,31/05/2030 9:00\n\
         2125550137,2030-05-31T09:00:00Z,2030-05-31T09:00:00Z\n2125550137,2030-05-31 09:00:00+02:00,\n2125550137,,2030-05-31\n",
    )
    .await;
    let expected = [
        (2, Some("not_before"), "no_offset"),
        (3, Some("not_after"), "invalid_time"),
        (4, Some("not_after"), "empty_period"),
        (6, Some("not_after"), "invalid_time"),
    ];
    assert_eq!((rejections(&batch), lines(&batch)), (expected.to_vec(), vec![5]));
    assert!(batch.rejected[0].detail.contains("2030-05-31T09:00:00-04:00"), "{}", batch.rejected[0].detail);
}

#[tokio::test]
async fn a_cell_of_any_size_costs_its_own_row_only() {
    let digits = "7".repeat(10_000_000);
    let text = "ü".repeat(500_000);
    let file =
        format!("to,name\n{digits},a\n2125550137,\"{text}\"\n2125550137,{}\n2125550138,b\n", ",".repeat(1_000_000));
    let batch = read(&file).await;
    let expected =
        [(2, Some("to"), "cell_too_large"), (3, Some("name"), "cell_too_large"), (4, None, "too_many_cells")];
    assert_eq!((rejections(&batch), lines(&batch)), (expected.to_vec(), vec![5]));
    assert_eq!(batch.rejected[0].value.as_deref(), Some(&digits[..64]));
    let many = vec!["x".repeat(60_000); 6];
    let names: Vec<_> = (0..6).map(|n| format!("n{n}")).collect();
    let batch = read(format!("to,{}\n2125550137,{}", names.join(","), many.join(","))).await;
    assert_eq!(rejections(&batch), [(2, None, "row_too_large")]);
}

#[tokio::test]
async fn a_quotation_mark_that_is_never_closed_is_named_by_the_line_it_opens_in() {
    for rest in ["2125550138,b\n", &"2125550138,b\n".repeat(50_000)] {
        let batch = read(format!("to,name\n2125550137,a\n2125550137,\"open\n{rest}")).await;
        assert_eq!((rejections(&batch), lines(&batch)), (vec![(3, None, "unclosed_quote")], vec![2]));
    }
    assert_eq!(read("to,name\n2125550137,\"closed\"").await.leads.len(), 1);
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_an_error_and_not_the_end_of_the_list() {
    let chunks = [Ok(&b"to\n2125550137\n21255"[..]), Err(io::Error::from(io::ErrorKind::ConnectionReset))];
    let upload = tokio_util::io::StreamReader::new(futures::stream::iter(chunks));
    let mut list = CsvLeads::open(upload, rules()).await.unwrap();
    assert!(matches!(list.next_batch(10).await, Err(FileError::Read(_))));
}

#[tokio::test]
async fn rows_at_the_limit_of_their_size_do_not_add_up_in_one_batch() {
    let row = format!("2125550137,{}\n", "x".repeat(16_000));
    let file = format!("to,v\n{}", row.repeat(1000));
    let mut list = CsvLeads::open(file.as_bytes(), rules()).await.unwrap();
    let mut sizes = Vec::new();
    while let Some(batch) = list.next_batch(usize::MAX).await.unwrap() {
        sizes.push(batch.rows());
    }
    assert!(sizes.len() > 3 && sizes.iter().sum::<usize>() == 1000, "{sizes:?}");
}

/// Rows of a well-formed file, counted by the `csv` crate as an independent judge.
fn rows_by_the_csv_crate(file: &[u8]) -> usize {
    csv::ReaderBuilder::new().flexible(true).from_reader(file).byte_records().count()
}

fn cell() -> impl Strategy<Value = String> {
    prop_oneof!["[+0-9() .x-]{0,16}", "(\"([^\"]|\"\"){0,8}\")", "\\PC{0,6}", Just("2125550137".to_owned())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_make_the_reader_panic_and_each_row_is_accepted_or_rejected(
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..400),
            proptest::collection::vec(proptest::sample::select(&b"2125550137\",\r\n;+\xc3\xbc\0a"[..]), 0..400),
            proptest::collection::vec((cell(), cell()), 0..20)
                .prop_map(|rows| rows.into_iter().flat_map(|(a, b)| format!("{a},{b}\r\n").into_bytes()).collect()),
        ],
        with_header in any::<bool>(),
        chunk in 1_usize..70,
        max in 1_usize..9,
    ) {
        let file = if with_header { [b"to,name\n".as_slice(), &body].concat() } else { body };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(read_chunked(&file, chunk, max));
        prop_assert!(!with_header || read.is_ok());
        if let Ok(batch) = read {
            prop_assert_eq!(batch.rows(), rows_by_the_csv_crate(&file));
            let whole = runtime.block_on(read_chunked(&file, file.len(), 1000)).unwrap();
            prop_assert_eq!(batch, whole, "the same in any chunks");
        }
    }
}
