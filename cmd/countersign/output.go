package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"
)

// console is where words and data go: words for people to stderr, data to
// stdout, so that a pipe never carries both.
type console struct {
	in       io.Reader
	out, err io.Writer
	json     bool
	noInput  bool
	colour   bool
	ascii    bool
	asks     bool // a person is there: see interactive
}

// interactive reports whether a person is at the terminal: standard input and
// error are terminals, and nobody said otherwise. $COUNTERSIGN_INTERACTIVE=1
// stands for the terminals, where a person watches something that is not one.
func (c *console) interactive() bool {
	if c.noInput || isSet("CI") {
		return false
	}
	return os.Getenv("COUNTERSIGN_INTERACTIVE") == "1" || isTerminal(c.in) && isTerminal(c.err)
}

func isSet(name string) bool {
	switch strings.ToLower(os.Getenv(name)) {
	case "", "0", "false", "no":
		return false
	}
	return true
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// settle decides how to write, once the flags are known.
func (c *console) settle() {
	c.asks = c.interactive()
	c.colour = isTerminal(c.err) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	c.ascii = true
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(os.Getenv(name)); v != "" {
			c.ascii = !strings.Contains(v, "utf-8") && !strings.Contains(v, "utf8")
			break
		}
	}
}

// say writes a line for people.
func (c *console) say(format string, args ...any) {
	fmt.Fprintf(c.err, format+"\n", args...)
}

// bold marks a word on a terminal with colour.
func (c *console) bold(s string) string {
	if !c.colour {
		return s
	}
	return "\x1b[1m" + s + "\x1b[0m"
}

// document writes data of a versioned schema: the name says what it is and the
// number when its meaning changes; members are only ever added within one.
func (c *console) document(schema string, fields map[string]any) error {
	return writeDocument(c.out, schema, fields)
}

func writeDocument(w io.Writer, schema string, fields map[string]any) error {
	doc := map[string]any{"schema": "countersign." + schema}
	for k, v := range fields {
		doc[k] = v
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(doc)
}

// table writes rows in columns.
func (c *console) table(head []string, rows [][]string) {
	w := tabwriter.NewWriter(c.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, r := range rows {
		for i := range r {
			r[i] = clean(r[i])
		}
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	_ = w.Flush()
}

// list shows what there is of something, or says that there is none.
func (c *console) list(head []string, rows [][]string) {
	if len(rows) == 0 {
		c.say("There are none.")
		return
	}
	c.table(head, rows)
}

// fail writes how it ended. Programs get one line of JSON, people a sentence
// and the command that mends it.
func (c *console) fail(f *failure) {
	if c.json || !c.asks {
		fields := map[string]any{"code": f.code, "message": clean(f.message), "fix": f.fix, "request_id": f.ref, "exit": f.exit}
		if f.url != "" {
			fields["approval_url"] = f.url
		}
		if f.review != "" {
			fields["review"] = f.review
		}
		_ = writeDocument(c.err, "error/v1", fields)
		return
	}
	line := clean(f.message)
	if f.ref != "" {
		line += " (reference " + clean(f.ref) + ")"
	}
	c.say("%s %s", c.bold("error:"), line)
	if f.fix != "" {
		c.say("%s %s", c.bold("hint:"), clean(f.fix))
	}
}

// maxText bounds what is shown of a text that came from elsewhere.
const maxText = 2000

// clean makes text from elsewhere safe to show: no control characters, which
// terminals obey, and no bidirectional ones, which make text read as other text.
func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "..."
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == 0x2028, r == 0x2029:
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// ago says how long ago, for people.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	d := now.Sub(t)
	if d < 0 {
		return "in " + span(-d)
	}
	return span(d) + " ago"
}

// span is a length of time in one unit, for people.
func span(d time.Duration) string {
	unit := func(n int, name string) string {
		if n == 1 {
			return "1 " + name
		}
		return fmt.Sprintf("%d %ss", n, name)
	}
	switch d = d.Round(time.Second); {
	case d < 90*time.Second:
		return unit(int(d/time.Second), "second")
	case d < 90*time.Minute:
		return unit(int((d+30*time.Second)/time.Minute), "minute")
	case d < 48*time.Hour:
		return unit(int((d+30*time.Minute)/time.Hour), "hour")
	}
	return unit(int((d+12*time.Hour)/(24*time.Hour)), "day")
}

// clock is a time of day for people here.
func clock(t time.Time) string { return t.Local().Format("15:04") }
