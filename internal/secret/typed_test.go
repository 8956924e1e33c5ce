package secret

import (
	"strings"
	"testing"
)

func TestTyped(t *testing.T) {
	v := NewTyped()
	text := v.Reveal()
	if len(text) != TypedLen || v.Grouped() != strings.Join([]string{text[:4], text[4:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-") {
		t.Fatalf("a code of %d characters, grouped %d", len(text), len(v.Grouped()))
	}
	if NewTyped() == v {
		t.Error("two codes are the same")
	}
	for _, written := range []string{
		text, v.Grouped(), strings.ToLower(v.Grouped()), " " + strings.ReplaceAll(v.Grouped(), "-", " ") + "\r\n",
		strings.NewReplacer("0", "o", "1", "l").Replace(text), strings.NewReplacer("0", "O", "1", "I").Replace(text),
	} {
		if got, err := ReadTyped(written, TypedLen); err != nil || got != v {
			t.Errorf("one way to write it is refused: %v", err)
		}
	}
	last := byte('A')
	if text[TypedLen-1] == last {
		last = 'B'
	}
	if _, err := ReadTyped(text[:TypedLen-1]+string(last), TypedLen); err == nil {
		t.Error("a wrong check is taken")
	}
	for _, bad := range []string{
		"", text[:23], text + "A", text[:22] + "U" + text[23:], text[:22] + "\x00" + text[23:], "é" + text, text + strings.Repeat(" ", 200),
		strings.Replace(text, text[:1], "０", 1), text + "_",
	} {
		if got, err := ReadTyped(bad, TypedLen); err == nil || !got.IsZero() {
			t.Errorf("%d characters are taken", len(bad))
		}
	}
	if v := EncodeTyped(make([]byte, 15)); len(v.Reveal()) != 16 || v.Reveal()[:15] != strings.Repeat("0", 15) {
		t.Errorf("fifteen zeros are %q", v.Reveal())
	}
}

func FuzzReadTyped(f *testing.F) {
	f.Add(NewTyped().Grouped(), TypedLen)
	f.Add("o0-i1-l1 aA", 16)
	f.Add("", 0)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 2 || n > 64 {
			n = TypedLen
		}
		v, err := ReadTyped(s, n)
		if err != nil {
			if !v.IsZero() {
				t.Fatal("an error comes with a value")
			}
			return
		}
		// What was read is one code, however it was written.
		again, err := ReadTyped(v.Grouped(), n)
		if err != nil || again != v || len(v.Reveal()) != n {
			t.Fatalf("%q reads as %q and then %v", s, v.Reveal(), err)
		}
	})
}
