//! Each rule against a snippet that breaks it and one that does not.

use super::check_file;

/// Rule names found in a file of that path, in order of line.
fn rules(path: &str, body: &str) -> Vec<&'static str> {
    let mut found = check_file(path, &format!("//! Module.\n{body}"));
    found.sort();
    found.into_iter().map(|violation| violation.rule).collect()
}

const LIBRARY: &str = "crates/graph/src/verify.rs";
const KERNEL: &str = "crates/kernels/src/gemm.rs";

fn lines(count: usize) -> String {
    "const A: u8 = 1;\n".repeat(count)
}

#[test]
fn violations_print_path_line_rule_and_advice() {
    let found = check_file(LIBRARY, "//! Module.\nfn f() {\n    todo!()\n}\n");
    let text: Vec<String> = found.iter().map(ToString::to_string).collect();
    let expected = "crates/graph/src/verify.rs:3: unfinished: `todo!` must not be committed; \
                    finish it";
    assert_eq!(text, [expected]);
}

#[test]
fn files_end_at_600_lines_and_tests_at_the_end_do_not_count() {
    assert_eq!(rules(LIBRARY, &lines(599)), [""; 0]);
    assert_eq!(rules(LIBRARY, &lines(600)), ["file-length"]);
    let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(599), lines(300));
    assert_eq!(rules(LIBRARY, &tests), [""; 0]);
    assert_eq!(rules("crates/graph/tests/all.rs", &lines(700)), [""; 0]);
}

#[test]
fn functions_end_at_70_lines_of_code() {
    let function = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines));
    assert_eq!(rules(LIBRARY, &function(68)), [""; 0]);
    assert_eq!(rules(LIBRARY, &function(69)), ["function-length"]);
    let commented = format!("fn f() {{\n{}}}\n", "    // why\n\n    g();\n".repeat(68));
    assert_eq!(rules(LIBRARY, &commented), [""; 0]);
    let method = format!("impl S {{\n{}}}\n", function(69));
    assert_eq!(rules(LIBRARY, &method), ["function-length"]);
    let in_macro = format!("macro_rules! m {{ () => {{\n{}}} }}\n", function(69));
    assert_eq!(rules(LIBRARY, &in_macro), ["function-length"]);
}

#[test]
fn a_const_argument_is_not_a_function_body() {
    let body = "    g();\n".repeat(69);
    let function = format!("fn f() -> A<{{ N }}> {{\n{body}}}\n");
    assert_eq!(rules(LIBRARY, &function), ["function-length"]);
}

#[test]
fn lines_end_at_100_characters() {
    assert_eq!(rules(LIBRARY, &format!("// {}\n", "é".repeat(97))), [""; 0]);
    assert_eq!(rules(LIBRARY, &format!("// {}\n", "é".repeat(98))), ["line-length"]);
}

#[test]
fn files_open_with_module_documentation() {
    let found = check_file(LIBRARY, "// plain comment\nfn f() {}\n");
    assert_eq!(found[0].rule, "module-doc");
}

#[test]
fn names_that_say_nothing_are_refused() {
    assert_eq!(rules("crates/graph/src/utils.rs", ""), ["file-name"]);
    assert_eq!(rules("crates/graph/src/common/shape.rs", ""), ["file-name"]);
    assert_eq!(rules("crates/graph/src/database.rs", ""), [""; 0]);
}

#[test]
fn unsafe_stands_in_kernels_and_two_files_of_tensor_only() {
    let block = "fn f() {\n    // SAFETY: checked.\n    let x = unsafe { g() };\n}\n";
    assert_eq!(rules(KERNEL, block), [""; 0]);
    assert_eq!(rules("crates/tensor/src/arena.rs", block), [""; 0]);
    assert_eq!(rules("crates/tensor/src/view.rs", block), ["unsafe-place"]);
    assert_eq!(rules("crates/landfall/src/main.rs", block), ["unsafe-place"]);
}

#[test]
fn every_unsafe_says_why() {
    for broken in [
        "fn f() {\n    unsafe { g() }\n}\n",
        "fn f() {\n    // SAFETY: for h only.\n    h();\n    unsafe { g() }\n}\n",
        "/// Adds.\npub unsafe fn f() {}\n",
        "unsafe impl Send for S {}\n",
        "impl S {\n    unsafe fn f() {}\n}\n",
        "impl Simd for S {\n    fn f() {\n        unsafe { g() }\n    }\n}\n",
    ] {
        assert_eq!(rules(KERNEL, broken), ["unsafe-reason"], "{broken}");
    }
    for sound in [
        "fn f() {\n    // SAFETY: a\n    // b.\n    let x =\n        unsafe { g() };\n}\n",
        "/// Adds.\n///\n/// # Safety\n/// AVX2.\n#[target_feature(enable = \"avx2\")]\n\
         pub unsafe fn f() {}\n",
        "// SAFETY: no interior pointers.\nunsafe impl Send for S {}\n",
        "type F = unsafe fn(u8) -> u8;\n",
        "impl Simd for S {\n    unsafe fn f() {}\n}\n",
        "// \"unsafe\" in text\nconst A: &str = \"unsafe { }\";\n",
    ] {
        assert_eq!(rules(KERNEL, sound), [""; 0], "{sound}");
    }
}

#[test]
fn clocks_entropy_environment_and_output_stay_above_the_line() {
    for (code, rule) in [
        ("let a = Instant::now();", "clock"),
        ("let a = std::time::SystemTime::now();", "clock"),
        ("let a = rand::rng();", "entropy"),
        ("let a = thread_rng();", "entropy"),
        ("getrandom::fill(&mut a);", "entropy"),
        ("let a = std::env::var(\"A\");", "environment"),
        ("println!(\"a\");", "print"),
        ("eprintln!(\"a\");", "print"),
        ("dbg!(a);", "print"),
    ] {
        let function = format!("fn f() {{ {code} }}\n");
        assert_eq!(rules(LIBRARY, &function), [rule], "{code}");
        assert_eq!(rules("crates/landfall/src/main.rs", &function), [""; 0], "{code}");
        assert_eq!(rules("crates/graph/benches/speed.rs", &function), [""; 0], "{code}");
        assert_eq!(rules("bench/rust-peers/src/main.rs", &function), [""; 0], "{code}");
        let tested = format!("#[cfg(test)]\nmod tests {{\n{function}}}\n");
        assert_eq!(rules(LIBRARY, &tested), [""; 0], "{code}");
        let not_tested = format!("#[cfg(not(test))]\nmod real {{\n{function}}}\n");
        assert_eq!(rules(LIBRARY, &not_tested), [rule], "{code}");
    }
    assert_eq!(rules(LIBRARY, "use std::env::{args, var};\n"), ["environment"]);
    assert_eq!(rules(LIBRARY, "/// Never `Instant::now()`.\nfn f(now: Instant) {}\n"), [""; 0]);
}

#[test]
fn allow_gives_its_reason() {
    assert_eq!(rules(LIBRARY, "#[allow(dead_code)]\nfn f() {}\n"), ["allow-reason"]);
    assert_eq!(rules(LIBRARY, "#![allow(dead_code)]\n"), ["allow-reason"]);
    assert_eq!(
        rules(LIBRARY, "#[cfg_attr(test, allow(dead_code))]\nfn f() {}\n"),
        ["allow-reason"]
    );
    assert_eq!(rules(LIBRARY, "#[allow(dead_code, reason = \"w\")]\nfn f() {}\n"), [""; 0]);
}

#[test]
fn unfinished_code_is_refused_even_in_tests() {
    assert_eq!(rules("crates/graph/tests/a.rs", "fn f() { unimplemented!() }\n"), ["unfinished"]);
}

#[test]
fn generated_code_is_exempt() {
    assert_eq!(check_file("crates/landfall/src/generated/oip.rs", "fn f() { todo!() }"), []);
}
