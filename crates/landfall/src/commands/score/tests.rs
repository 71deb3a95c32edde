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

    fn write(&self, name: &str, text: &str) -> PathBuf {
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
            json: false,
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
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
        .read("out.quarantine.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    bad.sort_by_key(|bad| bad["row"].as_u64());
    assert_eq!((bad[0]["row"].as_u64(), bad[1]["row"].as_u64()), (Some(2), Some(3)));
    assert_eq!(bad[0]["reason"], "column 'a': 'x' is not of type FP32");
    assert_eq!(bad[0]["data"]["id"], "three");
    assert_eq!(bad[1]["reason"], "2 cells, expected 3");
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
    let input = folder.write("in.csv", "x\n1\n2.5\n\n3\n");
    let totals = score(&folder.arguments(model, input, "out.csv")).unwrap();
    assert_eq!(folder.read("out.csv"), "y\n1\n3\n");
    assert_eq!(totals.quarantined, 1);
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
