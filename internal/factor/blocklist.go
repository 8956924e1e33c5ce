package factor

import (
	"bufio"
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// words are what many people build passwords of, one a line: put together for
// this product. A password that is nothing but such words, digits and signs is
// refused.
//
//go:embed words.txt
var commonWords string

// Blocklist says which passwords are guessed first. It judges whole passwords
// and makes no rule about what characters one has (SP 800-63B-4 3.1.1.2).
type Blocklist struct {
	words map[string]bool // folded
	whole map[string]bool // folded passwords, of the operator
}

// NewBlocklist makes the list of the release and the context of a deployment:
// the names that its people see, e.g. the labels of its host.
func NewBlocklist(context ...string) *Blocklist {
	b := &Blocklist{words: map[string]bool{}, whole: map[string]bool{}}
	for w := range strings.FieldsSeq(commonWords) {
		b.words[folded(w)] = true
	}
	for _, c := range context {
		for _, w := range wordsOf(c) {
			b.words[w] = true
		}
	}
	return b
}

// maxBlocked is how many passwords an operator's file may hold.
const maxBlocked = 10_000_000

// Add reads further passwords that nobody may choose, one a line.
func (b *Blocklist) Add(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		if n > maxBlocked {
			return fmt.Errorf("more than %d lines", maxBlocked)
		}
		if f := folded(lines.Text()); f != "" {
			b.whole[f] = true
		}
	}
	return lines.Err()
}

// folded is a password without what people vary first: case, width, and the
// signs that stand for letters.
func folded(s string) string {
	return strings.Map(func(r rune) rune {
		switch r = unicode.ToLower(r); r {
		case '@':
			return 'a'
		case '$':
			return 's'
		}
		return r
	}, norm.NFKC.String(s))
}

// wordsOf are the folded words of a name that say something about somebody.
func wordsOf(s string) (out []string) {
	for _, w := range strings.FieldsFunc(folded(s), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		if len([]rune(w)) >= 3 {
			out = append(out, w)
		}
	}
	return out
}

// Why says in words why a password is guessed early, "" if it is not known to
// be. about are names of whom it is for.
func (b *Blocklist) Why(password string, about ...string) string {
	f := folded(password)
	runes := []rune(f)
	theirs := map[string]bool{}
	for _, a := range about {
		for _, w := range append(wordsOf(a), folded(a)) {
			theirs[w] = len([]rune(w)) >= 3
		}
	}
	plain := strings.Map(func(r rune) rune {
		if n := strings.IndexRune("013457", r); n >= 0 {
			return rune("oleast"[n])
		}
		return r
	}, f)
	switch {
	case b.whole[f]:
		return "it is on your administrators' list"
	case repeats(runes):
		return "it repeats a few characters"
	case runs(runes):
		return "it follows the alphabet, the digits or the keyboard"
	case b.made(runes, []rune(plain), theirs):
		return "it is made of common words, names and digits only"
	}
	return ""
}

// repeats reports whether something of at most four characters, or at most a
// third of the whole, stands there again and again.
func repeats(r []rune) bool {
	for period := 1; period <= max(4, len(r)/3) && period < len(r); period++ {
		same := true
		for i := period; i < len(r) && same; i++ {
			same = r[i] == r[i-period]
		}
		if same {
			return true
		}
	}
	return false
}

// rows are what fingers run along.
var rows = []string{"qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "yxcvbnm", "azertyuiop", "qsdfghjklm", "wxcvbn", "1234567890", "0987654321"}

// runs reports whether every character but a few follows the one before it.
func runs(r []rune) bool {
	if len(r) < 4 {
		return true
	}
	jumps := 0
	for i := 1; i < len(r); i++ {
		if d := r[i] - r[i-1]; d >= -1 && d <= 1 || neighbours(r[i-1], r[i]) {
			continue
		}
		jumps++
	}
	return jumps <= len(r)/5
}

func neighbours(a, b rune) bool {
	pair, back := string([]rune{a, b}), string([]rune{b, a})
	return slices.ContainsFunc(rows, func(row string) bool { return strings.Contains(row, pair) || strings.Contains(row, back) })
}

// fewWords is how many known words in a row are guessed early; a phrase of more
// is a phrase.
const fewWords = 2

// made reports whether a password is nothing but one or two known words with
// digits and signs around and between them. plain is the password r with the
// digits that stand for letters read as letters.
func (b *Blocklist) made(r, plain []rune, theirs map[string]bool) bool {
	known := func(w string) bool { return b.words[w] || theirs[w] }
	fewest := make([]int, len(r)+1) // words in the first i characters, or none if they are not made so
	const none = 1 << 20
	for i := range fewest {
		fewest[i] = none
	}
	fewest[0] = 0
	for i := range r {
		if fewest[i] == none {
			continue
		}
		if !unicode.IsLetter(r[i]) {
			fewest[i+1] = min(fewest[i+1], fewest[i])
		}
		for j := i + 3; j <= min(len(r), i+32); j++ {
			if known(string(r[i:j])) || known(string(plain[i:j])) {
				fewest[j] = min(fewest[j], fewest[i]+1)
			}
		}
	}
	n := fewest[len(r)]
	return n >= 1 && n <= fewWords
}
