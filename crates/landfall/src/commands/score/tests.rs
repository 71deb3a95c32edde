//! Files in, files out, through a model that doubles what it is given.

use std::fs;

use landfall_package::PackageBuilder;
use landfall_tensor::{Shape, Tensor};

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path =
            std::env::temp_dir().join(format!("landfall-score-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A model of `input`, which is `x: f32[n,2]` or so, that gives `y`, twice as much.
    fn model(&self, input: &str) -> PathBuf {
        let text = format!(
            "graph \"g\" {{\n  input %x: {input}\n  const %two: f32[1] = @0\n  \
             %y: {input} = Mul(%x, %two)\n  output %y\n}}\n"
        );
        let two = Tensor::from_slice(Shape::from([1]), &[2.0f32]).unwrap();
        let graph = landfall_graph::text::parse(&text, &[two]).unwrap();
        let path = self.0.join("double.landfall");
        PackageBuilder::from_graph(&graph).write(&path).unwrap();
        path
    }

    fn arguments(&self, model: PathBuf, input: PathBuf, output: &str) -> ScoreArguments {
        ScoreArguments {
            model,
            input: vec![input],
            output: self.0.join(output),
            columns: Vec::new(),
            keep: Vec::new(),
            quarantine: None,
            batch_rows: 2,
            threads: 2,
            precision: None,
            json: false,
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// Reason and data of every row in a quarantine file.
    fn quarantined(&self, name: &str) -> Vec<(String, serde_json::Value)> {
        let line = |line: &str| {
            let mut bad: serde_json::Value = serde_json::from_str(line).unwrap();
            (bad["reason"].as_str().unwrap().to_owned(), bad["data"].take())
        };
        self.read(name).lines().map(line).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn bad_rows_of_csv_are_quarantined_and_the_others_keep_their_order() {
    let folder = Folder::new("csv");
    let csv = "id,a,b\none,1,2\ntwo,,4\nthree,x,6\nfour,7\nfive,9,10\n";
    let input = folder.write("in.csv", csv);
    let mut arguments = folder.arguments(folder.model("f32[n,2]"), input, "out.csv");
    arguments.columns = vec!["a".into(), "b".into()];
    arguments.keep = vec!["id".into()];
    let totals = score(&arguments).unwrap();
    assert_eq!((totals.scored, totals.quarantined), (3, 2));
    let expected = "id,y_0,y_1\none,2.0,4.0\ntwo,NaN,8.0\nfive,18.0,20.0\n";
    assert_eq!(folder.read("out.csv"), expected);
    let mut bad: Vec<serde_json::Value> = folder
        .read("out.csv.quarantine.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    bad.sort_by_key(|bad| bad["row"].as_u64());
    assert_eq!((bad[0]["row"].as_u64(), bad[1]["row"].as_u64()), (Some(2), Some(3)));
    assert_eq!(bad[0]["reason"], "column 'a': 'x' is not of type FP32");
    assert_eq!(bad[0]["data"]["id"], "three");
    assert_eq!(bad[1]["reason"], "line 5: 2 cells, expected 3");
}

#[test]
fn every_format_carries_the_same_rows() {
    let folder = Folder::new("formats");
    let rows = "{\"x\": 1.5}\n{\"x\": 2}\n\n{\"x\": null}\nnot json\n{\"x\": 4}\n";
    let mut input = folder.write("in.jsonl", rows);
    let model = folder.model("f32[n,1]");
    for (output, factor) in [("a.parquet", 2.0), ("b.arrow", 4.0), ("c.jsonl", 8.0)] {
        let totals = score(&folder.arguments(model.clone(), input.clone(), output)).unwrap();
        assert_eq!(totals.scored, 4, "{output}");
        assert_eq!(totals.quarantined, u64::from(output == "a.parquet"));
        // The output of one is the input of the next.
        let renamed = rename_y_to_x(&folder, output);
        if output == "c.jsonl" {
            let expected = format!("{{\"y\":{:?}}}", 1.5 * factor);
            assert!(folder.read(output).starts_with(&expected), "{}", folder.read(output));
        }
        input = renamed;
    }
}

/// A file like `name` whose column `y` is named `x`.
fn rename_y_to_x(folder: &Folder, name: &str) -> PathBuf {
    use std::sync::Arc;

    let path = folder.0.join(name);
    let renamed = folder.0.join(format!("x-{name}"));
    let source = source::open(&path, &["y".to_owned()], &[]).unwrap();
    let mut sink = None;
    for chunk in source.chunks {
        let batch = chunk.unwrap().batch;
        let field = batch.schema().field(0).clone().with_name("x");
        let schema = Arc::new(arrow_schema::Schema::new(vec![field]));
        let batch = arrow_array::RecordBatch::try_new(schema, batch.columns().to_vec()).unwrap();
        let made = || sink::Sink::create(&renamed, &batch.schema()).unwrap();
        sink.get_or_insert_with(made).write(&batch).unwrap();
    }
    sink.unwrap().finish().unwrap();
    renamed
}

#[test]
fn integers_take_whole_numbers_only() {
    let folder = Folder::new("integers");
    let text = "graph \"g\" {\n  input %x: i64[n]\n  %y: i64[n] = Identity(%x)\n  output %y\n}\n";
    let graph = landfall_graph::text::parse(text, &[]).unwrap();
    let model = folder.0.join("same.landfall");
    PackageBuilder::from_graph(&graph).write(&model).unwrap();
    let input = folder.write("in.csv", "x\n1\n2.5\n\n3.0\n1e3\n");
    let totals = score(&folder.arguments(model, input, "out.csv")).unwrap();
    assert_eq!(folder.read("out.csv"), "y\n1\n3\n1000\n");
    assert_eq!(totals.quarantined, 1);
}

#[test]
fn an_empty_csv_file_has_no_heading() {
    let folder = Folder::new("nothing");
    let input = folder.write("in.csv", "");
    let error = score(&folder.arguments(folder.model("f32[n,1]"), input, "out.csv")).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("in.csv: the file is empty; expected a first line of"), "{error}");
}

#[test]
fn what_cannot_work_is_said_before_anything_is_written() {
    let folder = Folder::new("errors");
    let input = folder.write("in.csv", "a,b\n1,2\n");
    let model = folder.model("f32[n,2]");
    let error = |arguments: ScoreArguments| format!("{:#}", score(&arguments).unwrap_err());
    let mut wrong = folder.arguments(model.clone(), input.clone(), "out.csv");
    wrong.columns = vec!["a".into(), "c".into()];
    assert!(error(wrong).ends_with("there is no column 'c'; there are a, b"));
    let mut narrow = folder.arguments(model.clone(), input.clone(), "out.csv");
    narrow.columns = vec!["a".into()];
    assert!(error(narrow).contains("name as many columns with --columns"));
    let mut twice = folder.arguments(model.clone(), input.clone(), "out.csv");
    twice.columns = vec!["a".into(), "b".into()];
    twice.keep = vec!["y".into()];
    assert!(error(twice).contains("two columns 'y'"));
    assert!(error(folder.arguments(model, input, "out.txt")).contains("out.txt: expected a file"));
    assert!(!folder.0.join("out.csv").exists());
}

#[test]
fn an_output_that_is_no_file_is_refused_for_what_it_is() {
    let folder = Folder::new("outputs");
    let input = folder.write("in.csv", "x\n1\n");
    let mut arguments = folder.arguments(folder.model("f32[n,1]"), input, "out.csv");
    let error = |output: &str, arguments: &mut ScoreArguments| {
        arguments.output = output.into();
        format!("{:#}", score(arguments).unwrap_err())
    };
    let device = error("/dev/null", &mut arguments);
    assert!(device.contains("--output: /dev/null is not a regular file; expected"), "{device}");
    let dash = error("-", &mut arguments);
    assert!(dash.contains("not written to standard output"), "{dash}");
    assert!(!Path::new("-").exists());
}

#[test]
fn a_model_of_a_fixed_number_of_rows_is_refused() {
    let folder = Folder::new("fixed");
    let input = folder.write("in.csv", "x\n1\n");
    let arguments = folder.arguments(folder.model("f32[2,1]"), input, "out.csv");
    let error = format!("{:#}", score(&arguments).unwrap_err());
    assert!(error.contains("takes exactly 2 rows at a time"), "{error}");
}

#[test]
fn no_rows_make_an_output_of_no_rows() {
    let folder = Folder::new("empty");
    let model = folder.model("f32[n,2]");
    let csv = folder.write("in.csv", "id,a,b\n");
    for output in ["out.csv", "out.parquet", "out.arrow", "out.jsonl"] {
        let mut arguments = folder.arguments(model.clone(), csv.clone(), output);
        arguments.columns = vec!["a".into(), "b".into()];
        arguments.keep = vec!["id".into()];
        let totals = score(&arguments).unwrap();
        assert_eq!((totals.scored, totals.quarantined), (0, 0));
        assert_eq!(totals.outputs, [folder.0.join(output)]);
    }
    assert_eq!(folder.read("out.csv"), "id,y_0,y_1\n");
    assert_eq!(folder.read("out.jsonl"), "");
    for output in ["out.parquet", "out.arrow"] {
        let wanted = ["id".to_owned(), "y".to_owned()];
        let source = source::open(&folder.0.join(output), &wanted, &[]).unwrap();
        assert_eq!(source.schema.fields().len(), 2);
        let rows = source.chunks.map(|chunk| chunk.unwrap().batch.num_rows());
        assert_eq!(rows.sum::<usize>(), 0);
    }
}

#[test]
fn a_quarantine_belongs_to_the_last_run_and_one_output() {
    let folder = Folder::new("stale");
    let model = folder.model("f32[n,1]");
    let bad = folder.write("bad.csv", "x\n1\ntwo\n");
    let good = folder.write("good.csv", "x\n1\n");
    let run = |input: &PathBuf, output: &str| {
        score(&folder.arguments(model.clone(), input.clone(), output)).unwrap().quarantined
    };
    assert_eq!((run(&bad, "out.csv"), run(&bad, "out.jsonl")), (1, 1));
    let exists = |output: &str| folder.0.join(format!("{output}.quarantine.jsonl")).exists();
    assert!(exists("out.csv") && exists("out.jsonl"));
    assert_eq!(run(&good, "out.csv"), 0);
    assert!(!exists("out.csv") && exists("out.jsonl"));
}

#[test]
fn a_quarantine_that_cannot_be_written_is_known_before_a_row_is_read() {
    let folder = Folder::new("unwritable");
    let input = folder.write("in.csv", "x\n1\n");
    let mut arguments = folder.arguments(folder.model("f32[n,1]"), input, "out.csv");
    arguments.quarantine = Some(folder.0.join("absent/bad.jsonl"));
    let error = format!("{:#}", score(&arguments).unwrap_err());
    assert!(error.contains("--quarantine") && error.contains("no folder"), "{error}");
    assert!(!folder.0.join("out.csv").exists());
}

#[test]
fn bytes_that_are_no_text_cost_a_row_where_they_are_used() {
    let folder = Folder::new("bytes");
    let input = folder.write("in.csv", b"x,key,other\n1,a,\xe9\n2,caf\xe9,b\n3,c,d\n");
    let mut arguments = folder.arguments(folder.model("f32[n,1]"), input, "out.csv");
    arguments.keep = vec!["key".into()];
    score(&arguments).unwrap();
    assert_eq!(folder.read("out.csv"), "key,y\na,2.0\nc,6.0\n");
    let bad = folder.quarantined("out.csv.quarantine.jsonl");
    assert_eq!(bad[0].0, "column 'key': the byte 0xE9 is not UTF-8 text");
    assert_eq!(bad[0].1, "2,caf\u{fffd},b");
    assert_eq!(bad.len(), 1);
}

#[test]
fn a_quotation_mark_that_is_never_closed_swallows_no_rows_in_silence() {
    let folder = Folder::new("quotes");
    let input = folder.write("in.csv", "x,key\n1,a\n2,\"b\n3,c\n4,d\n");
    let totals = score(&folder.arguments(folder.model("f32[n,1]"), input, "out.csv")).unwrap();
    assert_eq!((totals.scored, totals.quarantined), (1, 1));
    let bad = folder.quarantined("out.csv.quarantine.jsonl");
    assert!(bad[0].0.starts_with("lines 3 to 5: a quotation mark is opened"), "{}", bad[0].0);
    assert_eq!(bad[0].1, "2,\"b\n3,c\n4,d");
}

#[test]
fn lines_of_json_are_quarantined_as_they_are() {
    let folder = Folder::new("lines");
    let lines = [
        r#"{"x":5,"id":1e3}"#,
        r#"{"x":[[1,2],[3]],"id":-0}"#,
        r#"{"x":[1,2,"3",4],"id":null}"#,
        r#"{"x":[1,2,3],"id":7}"#,
    ];
    let good = "{\"x\":[1,2,3,4]}\n{\"x\":[[1,2],[null,4]]}\n";
    let input = folder.write("in.jsonl", format!("{}\n{good}", lines.join("\n")));
    let arguments = folder.arguments(folder.model("f32[n,2,2]"), input, "out.csv");
    score(&arguments).unwrap();
    let expected = "y_0,y_1,y_2,y_3\n2.0,4.0,6.0,8.0\n2.0,4.0,NaN,8.0\n";
    assert_eq!(folder.read("out.csv"), expected);
    let bad = folder.read("out.csv.quarantine.jsonl");
    assert_eq!(bad.lines().count(), lines.len());
    for line in lines {
        assert!(bad.contains(&format!("\"data\":{line}}}\n")), "{line} is not in {bad}");
    }
}

#[test]
fn integers_in_lists_keep_their_digits_and_have_no_fraction() {
    let folder = Folder::new("exact");
    let text = "graph \"g\" {\n  input %x: i64[n,2]\n  %y: i64[n,2] = Identity(%x)\n  \
                output %y\n}\n";
    let graph = landfall_graph::text::parse(text, &[]).unwrap();
    let model = folder.0.join("same.landfall");
    PackageBuilder::from_graph(&graph).write(&model).unwrap();
    let rows = "{\"x\":[9007199254740993,1.0]}\n{\"x\":[1,2.5]}\n{\"x\":[1,null]}\n";
    let input = folder.write("in.jsonl", rows);
    score(&folder.arguments(model, input, "out.csv")).unwrap();
    assert_eq!(folder.read("out.csv"), "y_0,y_1\n9007199254740993,1\n");
    let reasons = folder.quarantined("out.csv.quarantine.jsonl").into_iter().map(|bad| bad.0);
    let reasons: Vec<String> = reasons.collect();
    assert_eq!(reasons, ["column 'x': 2.5 is not whole", "column 'x' is null"]);
}

#[test]
fn a_column_that_is_there_twice_is_refused_if_it_is_used() {
    let folder = Folder::new("twice");
    let input = folder.write("in.csv", "x,x,k,k\n1,9,2,3\n");
    let mut arguments = folder.arguments(folder.model("f32[n,1]"), input, "out.csv");
    let error = format!("{:#}", score(&arguments).unwrap_err());
    assert!(error.contains("in.csv: 2 columns are named 'x'"), "{error}");
    arguments.input = vec![folder.write("in.csv", "x,k,k\n1,2,3\n")];
    assert_eq!(score(&arguments).unwrap().scored, 1);
}
