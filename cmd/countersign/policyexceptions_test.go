package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestExceptionsAreWritten: add and end change what they are told to, and nothing else
// of the file; what could not be published is not written.
func TestExceptionsAreWritten(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "exceptions.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func() string {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(b)
	}
	write("a.cedar", `
@id("read") @reason("Reading needs a passkey.")
permit (principal is Person, action == Action::"self.read", resource) when { context.assurance.age.phr <= duration("15m") };
@id("write") @reason("Writing needs a passkey.")
permit (principal is Person, action == Action::"self.write", resource) when { context.assurance.rung >= 3 };
`)
	write("never.policy.yaml", "never:\n  - name: nobody writes below phr\n    actions: [self.write]\n    below: phr\n")
	day := func(n int) string { return time.Now().AddDate(0, 0, n).UTC().Format(time.DateOnly) }
	do := func(exit int, want string, args ...string) {
		t.Helper()
		before := read()
		var out, errs bytes.Buffer
		got := run(t.Context(), append([]string{"policy", "exceptions"}, args...), strings.NewReader(""), &out, &errs)
		if got != exit || !strings.Contains(errs.String(), want) {
			t.Errorf("%v: %d %s, want %d and %q", args, got, errs.String(), exit, want)
		}
		if exit != 0 && read() != before {
			t.Errorf("%v: refused, and written", args)
		}
	}
	add := func(id, rule, who string, days int) []string {
		return []string{"add", dir, id, "--rule", rule, "--for", who, "--owner", "security", "--reason", `The key: "lost", on a journey.`, "--rung", "multi", "--max-age", "1h", "--until", day(days)}
	}
	do(0, "It counts once the directory is published: countersign policy publish "+dir, add("journey", "read", "usr_1", 10)...)
	do(2, "There is an exception journey already", add("journey", "read", "usr_2", 10)...)
	first := read()
	do(0, "added", add("nights", "read", "group:nights", 90)...)
	do(2, "ends within 90 days", add("ever", "read", "usr_1", 120)...)
	do(2, "ends within 90 days", add("over", "read", "usr_1", -1)...)
	do(1, "cannot be enforced", add("other", "nothing", "usr_1", 10)...)
	do(1, "nobody writes below phr", add("hole", "write", "usr_1", 10)...)
	do(2, "Required flag", "add", dir, "bare", "--rule", "read", "--for", "usr_1", "--rung", "multi", "--until", day(3))
	do(2, "no rung", append(add("rung", "read", "usr_1", 10), "--rung", "highest")...)
	do(2, "There is no exception nobody", "end", dir, "nobody")
	do(0, "ended", "end", dir, "nights")
	if read() != first {
		t.Errorf("added and ended, it is\n%s\nand was\n%s", read(), first)
	}
	// What somebody laid out by hand stays, comments too.
	byHand := "# Reviewed on Mondays.\nexceptions:\n- reason: R.   # why\n  id: \"one\"\n  rule: read\n  for: usr_1\n  owner: o\n  instead: {rung: multi}\n  until: " + day(5) + "\n"
	write("exceptions.yaml", byHand+strings.ReplaceAll(strings.SplitAfterN(byHand, "exceptions:\n", 2)[1], "one", "two"))
	do(0, "ended", "end", dir, "two")
	if read() != byHand {
		t.Errorf("%s\nwas\n%s", read(), byHand)
	}
	do(1, "Change it in an editor", add("three", "read", "usr_1", 10)...) // items are laid out otherwise
	write("exceptions.yaml", "exceptions: [{id: one, rule: read, for: usr_1, owner: o, reason: R., instead: {rung: multi}, until: "+day(5)+"}]\n")
	do(1, "Change it in an editor", "end", dir, "one")
	write("exceptions.yaml", first)
	do(0, "ended", "end", dir, "journey")
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("nothing is excepted, and the file is %q", read())
	}
}
