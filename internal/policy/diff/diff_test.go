package diff

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/policy"
)

func of(name, was, is string) []File {
	return Of(policy.Source{Files: []policy.File{{Name: name, Text: was}}}, policy.Source{Files: []policy.File{{Name: name, Text: is}}}, 1)
}

// texted is a difference as it is read.
func texted(files []File) string {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "%c%s\n", f.Op, f.Name)
		for _, l := range f.Lines {
			fmt.Fprintf(&b, "%c%d,%d %s\n", l.Op, l.Old, l.Now, l.Text)
		}
	}
	return b.String()
}

func TestOf(t *testing.T) {
	for _, c := range []struct{ was, is, want string }{
		{"a\nb\nc", "a\nb\nc", ""},
		{"a\nb\nc\nd\ne", "a\nb\nX\nd\ne", " f\n 2,2 b\n-3,0 c\n+0,3 X\n 4,4 d\n"},
		{"a\nb\nc\nd", "b\nc\nd\ne", " f\n-1,0 a\n 2,1 b\n 4,3 d\n+0,4 e\n"},
		{"a", "a\n", " f\n 1,1 a\n+0,2 \n"},
		{"a\nb\nc\nd\ne\nf\ng", "a\nc\nd\ne\nf", " f\n 1,1 a\n-2,0 b\n 3,2 c\n 6,5 f\n-7,0 g\n"},
	} {
		if got := texted(of("f", c.was, c.is)); got != c.want {
			t.Errorf("%q to %q:\n%swant\n%s", c.was, c.is, got, c.want)
		}
	}
}

// Files come and go as a whole; the schema, the exceptions and the floors are files.
func TestOfFiles(t *testing.T) {
	from := policy.Source{
		Schema: "entity A;", Files: []policy.File{{Name: "b.cedar", Text: "x\ny"}, {Name: "c.cedar", Text: "same"}},
		Exceptions: []policy.Exception{{ID: "e", Rule: "r", For: "group:g", Owner: "o", Reason: "w", Rung: 2, Until: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}},
	}
	to := policy.Source{
		Files:  []policy.File{{Name: "a.cedar", Text: "n"}, {Name: "c.cedar", Text: "same"}},
		Floors: []policy.File{{Name: "f.policy.yaml", Text: "z"}},
	}
	got := texted(Of(from, to, 3))
	for _, want := range []string{"+a.cedar\n+0,1 n\n", "-b.cedar\n-1,0 x\n-2,0 y\n", "-exceptions.yaml\n", "+f.policy.yaml\n+0,1 z\n", "-" + policy.SchemaFile + "\n-1,0 entity A;\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "c.cedar") {
		t.Error("what is the same is shown")
	}
	if len(Of(from, from, 3)) != 0 {
		t.Error("a source differs from itself")
	}
}

// Two files of one name, the one of policies and the other of statements, are both
// there.
func TestSameName(t *testing.T) {
	to := policy.Source{Files: []policy.File{{Name: "x", Text: "one"}}, Floors: []policy.File{{Name: "x", Text: "two"}}}
	if got := texted(Of(policy.Source{}, to, 0)); got != "+x\n+0,1 one\n+0,2 two\n" {
		t.Error(got)
	}
}

// applied gives back the two texts of a difference with everything around it.
func applied(lines []Line) (was, is []string) {
	for _, l := range lines {
		if l.Op != New {
			was = append(was, l.Text)
		}
		if l.Op != Gone {
			is = append(is, l.Text)
		}
	}
	return was, is
}

// lcs is the length of a longest common subsequence, the slow way.
func lcs(a, b []string) int {
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if length[i][j] = max(length[i+1][j], length[i][j+1]); a[i] == b[j] {
				length[i][j] = length[i+1][j+1] + 1
			}
		}
	}
	return length[0][0]
}

// Of any two texts the difference leads from the one to the other, both ways, with every
// line's number right, and none is shorter.
func TestScript(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	text := func() []string {
		out := make([]string, rnd.IntN(30))
		for i := range out {
			out[i] = string(rune('a' + rnd.IntN(1+rnd.IntN(5))))
		}
		return out
	}
	for range 3000 {
		a, b := text(), text()
		steps := maxSteps
		all := script(a, b, &steps)
		was, is := applied(all)
		if !slices.Equal(was, a) || !slices.Equal(is, b) {
			t.Fatalf("%q and %q give %q and %q", a, b, was, is)
		}
		changed := 0
		for _, l := range all {
			if l.Op != Both {
				changed++
			}
			if (l.Op == New) != (l.Old == 0) || (l.Op == Gone) != (l.Now == 0) || l.Old > 0 && a[l.Old-1] != l.Text || l.Now > 0 && b[l.Now-1] != l.Text {
				t.Fatalf("%+v of %q and %q", l, a, b)
			}
		}
		if want := len(a) + len(b) - 2*lcs(a, b); changed != want {
			t.Fatalf("%q and %q differ in %d lines, of which %d are shown", a, b, want, changed)
		}
	}
}

// What is large and differs everywhere takes bounded work, and says every line.
func TestBounded(t *testing.T) {
	big := func(of func(int) string) policy.Source {
		var s policy.Source
		for n := range 20 {
			var b strings.Builder
			for i := 0; b.Len() < 100_000; i++ {
				b.WriteString(of(n*100_000+i) + "\n")
			}
			s.Files = append(s.Files, policy.File{Name: fmt.Sprint(n), Text: b.String()})
		}
		return s
	}
	from, to := big(func(i int) string { return fmt.Sprint(i * i % 7) }), big(func(i int) string { return fmt.Sprint(i * i % 11) })
	files := Of(from, to, 1<<30)
	if len(files) != 20 {
		t.Fatal(len(files))
	}
	for i, f := range Files(from) {
		name := slices.IndexFunc(files, func(x File) bool { return x.Name == f.Name })
		was, is := applied(files[name].Lines)
		if strings.Join(was, "\n") != f.Text || strings.Join(is, "\n") != Files(to)[i].Text {
			t.Errorf("%s is not whole", f.Name)
		}
	}
	steps := 0
	if got := common([]int32{1, 2}, []int32{1, 3}, &steps); got != nil {
		t.Errorf("without steps: %v", got)
	}
}

// FuzzScript: of whatever two texts, the difference leads from one to the other.
func FuzzScript(f *testing.F) {
	f.Add("a\nb\nc", "a\nc\nd")
	f.Add("", "\n\n")
	f.Fuzz(func(t *testing.T, was, is string) {
		steps := maxSteps
		a, b := applied(script(strings.Split(was, "\n"), strings.Split(is, "\n"), &steps))
		if strings.Join(a, "\n") != was || strings.Join(b, "\n") != is {
			t.Errorf("%q and %q", a, b)
		}
	})
}
