// Package diff says how one source of policies differs from another: file by file
// and line by line. What a command prints and what a person signs are made of the same.
package diff

import (
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/trial"
)

// Op is what became of a line.
type Op byte

// The operations. Both is a line of the two texts, shown for what stands around it.
const (
	Both Op = ' '
	Gone Op = '-'
	New  Op = '+'
)

// Line is a line of a difference.
type Line struct {
	Op       Op
	Text     string
	Old, Now int // its number in each text, from 1; 0 where it is not
}

// File is a file that differs.
type File struct {
	Name  string
	Op    Op // New and Gone are of the whole file
	Lines []Line
}

// Files are the files of which a source is read.
func Files(src policy.Source) []policy.File {
	files := slices.Concat(src.Files, src.Floors)
	if src.Schema != "" {
		files = append(files, policy.File{Name: policy.SchemaFile, Text: src.Schema})
	}
	if len(src.Exceptions) > 0 {
		files = append(files, policy.File{Name: trial.ExceptionsFile, Text: trial.Write(src.Exceptions)})
	}
	return files
}

// Of gives the files that differ, by name. Around lines of both stand around each run
// of lines that do.
func Of(from, to policy.Source, around int) []File {
	old, now := texts(from), texts(to)
	var names []string
	for _, m := range []map[string]string{old, now} {
		for n := range m {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	slices.Sort(names)
	steps := maxSteps
	var out []File
	for _, n := range names {
		was, before := old[n]
		is, after := now[n]
		f := File{Name: n, Op: Both}
		switch {
		case before && after && was == is:
			continue
		case !before:
			f.Op = New
		case !after:
			f.Op = Gone
		}
		f.Lines = lines(was, is, before, after, around, &steps)
		out = append(out, f)
	}
	return out
}

// texts are a source's files by name. Two of a name are one after the other: nothing of
// either is left out.
func texts(s policy.Source) map[string]string {
	m := map[string]string{}
	for _, f := range Files(s) {
		if before, ok := m[f.Name]; ok {
			f.Text = before + "\n" + f.Text
		}
		m[f.Name] = f.Text
	}
	return m
}

func lines(was, is string, before, after bool, around int, steps *int) []Line {
	var a, b []string
	if before {
		a = strings.Split(was, "\n")
	}
	if after {
		b = strings.Split(is, "\n")
	}
	return clip(script(a, b, steps), around)
}

// clip leaves of the lines of both those that stand around others.
func clip(all []Line, around int) []Line {
	near := make([]bool, len(all))
	left := 0
	for i := range all {
		if all[i].Op != Both {
			left = around + 1
		}
		left--
		near[i] = left >= 0
	}
	left = 0
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Op != Both {
			left = around + 1
		}
		left--
		near[i] = near[i] || left >= 0
	}
	var out []Line
	for i := range all {
		if near[i] {
			out = append(out, all[i])
		}
	}
	return out
}

// The work of a difference is bounded: maxEdits are the lines that a file's shortest
// difference is looked for with, and maxSteps what all files together may take. Beyond
// either a run of lines is said to go and another to come, which is true of any two.
const (
	maxEdits = 2000
	maxSteps = 20_000_000
)

// script are the lines of both texts, in order. What is equal at both ends is no
// matter; of the rest the shortest difference is found (Myers, "An O(ND) Difference
// Algorithm", 1986), in whose runs what goes stands before what comes.
func script(a, b []string, steps *int) []Line {
	head := 0
	for head < min(len(a), len(b)) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < min(len(a), len(b))-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	var out []Line
	both := func(i, j, n int) {
		for k := range n {
			out = append(out, Line{Both, a[i+k], i + k + 1, j + k + 1})
		}
	}
	change := func(i, j, gone, come int) {
		for k := range gone {
			out = append(out, Line{Gone, a[i+k], i + k + 1, 0})
		}
		for k := range come {
			out = append(out, Line{New, b[j+k], 0, j + k + 1})
		}
	}
	both(0, 0, head)
	i, j := head, head
	for _, run := range common(numbered(a[head:len(a)-tail], b[head:len(b)-tail], steps)) {
		change(i, j, head+run.a-i, head+run.b-j)
		both(head+run.a, head+run.b, run.n)
		i, j = head+run.a+run.n, head+run.b+run.n
	}
	change(i, j, len(a)-tail-i, len(b)-tail-j)
	both(len(a)-tail, len(b)-tail, tail)
	return out
}

// numbered are two texts with a number for each line, equal ones having the same.
func numbered(a, b []string, steps *int) (x, y []int32, left *int) {
	ids := map[string]int32{}
	number := func(lines []string) []int32 {
		out := make([]int32, len(lines))
		for i, l := range lines {
			n, ok := ids[l]
			if !ok {
				n = int32(len(ids))
				ids[l] = n
			}
			out[i] = n
		}
		return out
	}
	return number(a), number(b), steps
}

// run is a run of equal lines, from a of the one and b of the other.
type run struct{ a, b, n int }

// common are the runs that two texts have in common, in order; none where to look for
// them would take too long.
func common(a, b []int32, steps *int) []run {
	n, m := len(a), len(b)
	if n == 0 || m == 0 {
		return nil
	}
	most := min(n+m, maxEdits)
	reach := make([]int32, 2*most+3) // how far into a each diagonal is followed; 0 is in the middle
	var rounds [][]int32
	for d := 0; d <= most; d++ {
		rounds = append(rounds, slices.Clone(reach[most+1-d:most+2+d]))
		for k := -d; k <= d; k += 2 {
			at := most + 1 + k
			x := int(reach[at-1]) + 1
			if k == -d || k != d && reach[at-1] < reach[at+1] {
				x = int(reach[at+1])
			}
			from := x
			for x < n && x-k < m && a[x] == b[x-k] {
				x++
			}
			reach[at] = int32(x)
			if *steps -= x - from + 1; *steps < 0 {
				return nil
			}
			if x >= n && x-k >= m {
				return back(rounds, d, n, m)
			}
		}
	}
	return nil
}

// back reads the runs out of the rounds of a search that ended at the end of both.
// Round d holds the diagonals from -d to d as they were before it.
func back(rounds [][]int32, d, x, y int) (runs []run) {
	for ; d >= 0; d-- {
		k := x - y
		at := func(k int) int { return int(rounds[d][k+d]) }
		before := 0
		switch {
		case d == 0:
		case k == -d || k != d && at(k-1) < at(k+1):
			before = k + 1
		default:
			before = k - 1
		}
		px, py := 0, 0
		begin := 0
		if d > 0 {
			px = at(before)
			py = px - before
			begin = px
			if before < k {
				begin++
			}
		}
		if x > begin {
			runs = append(runs, run{begin, begin - k, x - begin})
		}
		x, y = px, py
	}
	slices.Reverse(runs)
	return runs
}
