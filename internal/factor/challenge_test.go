package factor

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
)

var (
	keyNew = bytes.Repeat([]byte{1}, 32)
	keyOld = bytes.Repeat([]byte{2}, 32)
	made   = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
)

func text(c []byte) string { return base64.RawURLEncoding.EncodeToString(c) }

// TestChallenge: a challenge works for what it was made for, until it expires,
// and for nothing else.
func TestChallenge(t *testing.T) {
	c := NewChallenge(keyNew, once.SignIn, "browser", made)
	if again := NewChallenge(keyNew, once.SignIn, "browser", made); bytes.Equal(again, c) {
		t.Error("two challenges are the same")
	}
	keys := [][]byte{keyNew, keyOld}
	for name, tc := range map[string]struct {
		keys  [][]byte
		p     once.Purpose
		bound string
		text  string
		after time.Duration
		ok    bool
	}{
		"as made":          {keys, once.SignIn, "browser", text(c), 0, true},
		"to the end":       {keys, once.SignIn, "browser", text(c), ChallengeLifetime, true},
		"after the end":    {keys, once.SignIn, "browser", text(c), ChallengeLifetime + time.Second, false},
		"under an old key": {keys, once.SignIn, "browser", text(NewChallenge(keyOld, once.SignIn, "browser", made)), 0, true},
		"another key":      {keys, once.SignIn, "browser", text(NewChallenge(bytes.Repeat([]byte{3}, 32), once.SignIn, "browser", made)), 0, false},
		"no key":           {nil, once.SignIn, "browser", text(c), 0, false},
		"another purpose":  {keys, once.Enrol, "browser", text(c), 0, false},
		"another browser":  {keys, once.SignIn, "other", text(c), 0, false},
		"no browser":       {keys, once.SignIn, "", text(c), 0, false},
		"empty":            {keys, once.SignIn, "browser", "", 0, false},
		"cut":              {keys, once.SignIn, "browser", text(c[:len(c)-1]), 0, false},
		"longer":           {keys, once.SignIn, "browser", text(append(bytes.Clone(c), 0)), 0, false},
		"padded":           {keys, once.SignIn, "browser", text(c) + "=", 0, false},
		"another name":     {keys, once.SignIn, "browser", text(c)[:4] + "\n" + text(c)[4:], 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			at := made.Add(tc.after)
			spend, err := CheckChallenge(tc.keys, tc.p, tc.bound, tc.text, at)
			if !tc.ok {
				if problem.CodeOf(err) != "challenge_invalid" || spend != (once.Spend{}) {
					t.Errorf("%+v, %v", spend, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if spend.Purpose != tc.p || spend.Key != once.KeyOf(tc.p, tc.text) || !spend.Mark {
				t.Errorf("spend %+v", spend)
			}
			if !spend.Until.After(made.Add(ChallengeLifetime)) { // it must be remembered for longer than it works
				t.Errorf("remembered until %v", spend.Until)
			}
		})
	}
	for i := range c {
		d := bytes.Clone(c)
		d[i] ^= 1
		if _, err := CheckChallenge(keys, once.SignIn, "browser", text(d), made); err == nil {
			t.Errorf("accepted with byte %d changed", i)
		}
	}
}

// FuzzCheckChallenge: only what was made is accepted, under one name.
func FuzzCheckChallenge(f *testing.F) {
	c := make([]byte, challengeRandom, challengeSize) // the same in every process of a campaign
	c = binary.BigEndian.AppendUint64(c, uint64(made.Add(ChallengeLifetime).Unix()))
	genuine := text(append(c, challengeMAC(keyNew, once.StepUp, "browser", c)...))
	f.Add(genuine, "browser")
	f.Add(genuine+"\n", "browser")
	f.Add("\r"+genuine, "browser")
	f.Add(genuine[:79], "browser")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, s, bound string) {
		_, err := CheckChallenge([][]byte{keyNew}, once.StepUp, bound, s, made)
		if (err == nil) != (s == genuine && bound == "browser") {
			t.Errorf("%q for %q: %v", s, bound, err)
		}
		if err != nil && problem.CodeOf(err) != "challenge_invalid" {
			t.Errorf("%q: %v", s, err)
		}
	})
}

// FuzzChallengeOf: any answer of a browser is read or refused as malformed.
func FuzzChallengeOf(f *testing.F) {
	for _, client := range []string{`{"challenge":"abc"}`, `{"challenge":1}`, `{}`, `null`, `[]`, `{"challenge":"a","challenge":"b"}`, "\xef\xbb\xbf{}"} {
		f.Add([]byte(`{"response":{"clientDataJSON":"` + text([]byte(client)) + `"}}`))
	}
	f.Add([]byte(`{"response":{"clientDataJSON":"!"}}`))
	f.Add([]byte(`{"response":null}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := challengeOf(b)
		if err != nil {
			if problem.CodeOf(err) != "webauthn_malformed" || c != "" {
				t.Errorf("%q: %q, %v", b, c, err)
			}
			return
		}
		if !json.Valid(b) {
			t.Errorf("%q was read as %q", b, c)
		}
	})
}
