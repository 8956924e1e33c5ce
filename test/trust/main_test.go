// Package trust holds the campaigns by which the server's promises are shown:
// kills under load, races between ending and using, tampering, clocks that
// jump, full disks, planted secrets. Each prints its figures; docs/trust.md
// keeps those of the full campaigns. Without COUNTERSIGN_TRUST a hundredth of
// each runs.
package trust

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/test/internal/program"
	"github.com/countersign-dev/countersign/test/pgtest"
)

var updateFigures = flag.Bool("update-figures", false, "write what was measured into docs/trust.md")

// recorder is what this program is when it runs to record another: it does not
// return then.
var recorder = func() {}

type tests func() int

func (f tests) Run() int { return f() }

func TestMain(m *testing.M) {
	recorder()
	if flag.Parse(); !full() && os.Getenv("COUNTERSIGN_REQUIRE_POSTGRES") == "" && flag.Lookup("test.run").Value.String() == "" {
		fmt.Println("left out: make test and make trust run the campaigns, and -run one by its name")
		return
	}
	os.Exit(program.Run(tests(func() int {
		return pgtest.Run(tests(func() int {
			code := m.Run()
			if err := publish(); err != nil {
				fmt.Fprintln(os.Stderr, "docs/trust.md:", err)
				code = max(code, 1)
			}
			return code
		}))
	})))
}

// full reports whether the whole campaigns run.
func full() bool { return os.Getenv("COUNTERSIGN_TRUST") != "" }

// rounds is how often a campaign repeats: in full n times, else a hundredth.
func rounds(n int) int {
	if full() {
		return n
	}
	return max(1, n/100)
}

// ceiling bounds a campaign in time, whatever its rounds.
func ceiling(whole time.Duration) time.Time {
	if !full() {
		whole = 5 * time.Minute
	}
	return time.Now().Add(whole)
}

// soon is how long something may take that is promised within a time. The promise is
// measured by the whole campaigns, on a machine that does nothing else; a hundredth
// of one, beside other tests, tells a wait without an end from one that is long.
func soon(promised time.Duration) time.Duration {
	if !full() {
		promised *= 15
	}
	return promised
}

// beside lets a short campaign that mostly waits run beside others of its kind. A
// whole one has the machine to itself, because its figures are published.
func beside(t *testing.T) {
	if !full() {
		t.Parallel()
	}
}

// databases runs a campaign on both engines; n are its full rounds on each.
func databases(t *testing.T, sqlite, postgres int, campaign func(t *testing.T, dsn string, n int)) {
	t.Run("sqlite", func(t *testing.T) { campaign(t, "", rounds(sqlite)) })
	t.Run("postgres", func(t *testing.T) { campaign(t, pgtest.Start(t), rounds(postgres)) })
}

// engine names a database in figures.
func engine(dsn string) string {
	if dsn == "" {
		return "SQLite"
	}
	return "PostgreSQL"
}

// figure is a measured value as it is published.
type figure struct{ what, value, test string }

var measured struct {
	sync.Mutex
	list []figure
}

// report prints a figure and keeps it for docs/trust.md.
func report(t *testing.T, what, format string, args ...any) {
	t.Helper()
	f := figure{what, fmt.Sprintf(format, args...), strings.SplitN(t.Name(), "/", 2)[0]}
	t.Logf("FIGURE %s: %s", f.what, f.value)
	if t.Failed() {
		return // what failed is not published
	}
	measured.Lock()
	defer measured.Unlock()
	measured.list = append(measured.list, f)
}

// publish puts the figures into the table of docs/trust.md, each with the
// command that gives it; rows that were not measured stay.
func publish() error {
	if !*updateFigures || len(measured.list) == 0 {
		return nil
	}
	path := filepath.Join("..", "..", "docs", "trust.md")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(text), "| --- | --- | --- | --- |\n")
	if !ok {
		return fmt.Errorf("it has no table of figures")
	}
	type line struct{ what, text string }
	var lines []line
	for strings.HasPrefix(rest, "| ") {
		var text string
		text, rest, _ = strings.Cut(rest, "\n")
		lines = append(lines, line{strings.TrimSpace(strings.Split(text, "|")[1]), text + "\n"})
	}
	on := fmt.Sprintf("%d cores, %s", runtime.NumCPU(), time.Now().UTC().Format("2006-01-02"))
	for _, f := range measured.list {
		text := fmt.Sprintf("| %s | %s | `%s` | %s |\n", f.what, f.value, command(f.test), on)
		if i := slices.IndexFunc(lines, func(l line) bool { return l.what == f.what }); i >= 0 {
			lines[i].text = text
		} else {
			lines = append(lines, line{f.what, text})
		}
	}
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text)
	}
	return os.WriteFile(path, []byte(head+"| --- | --- | --- | --- |\n"+b.String()+rest), 0o644)
}

func command(test string) string {
	prefix := ""
	if full() {
		prefix = "COUNTERSIGN_TRUST=full "
	}
	return prefix + "go test -run '^" + test + "$' ./test/trust"
}

// percentile of sorted values.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(float64(len(sorted))*p/100))]
}
