//! What must not compile.

#[test]
fn unscoped_access_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
