package factor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/countersign-dev/countersign/internal/problem"
)

// tinkSealer is a key-encryption key as package hsm keeps it.
type tinkSealer struct {
	a interface {
		Encrypt(p, ad []byte) ([]byte, error)
		Decrypt(c, ad []byte) ([]byte, error)
	}
}

func (s tinkSealer) Seal(p, ad []byte) ([]byte, error) { return s.a.Encrypt(p, ad) }
func (s tinkSealer) Open(c, ad []byte) ([]byte, error) { return s.a.Decrypt(c, ad) }

func newSealer(t testing.TB) Sealer {
	t.Helper()
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	a, err := aead.New(h)
	if err != nil {
		t.Fatal(err)
	}
	return tinkSealer{a}
}

func passwords(t testing.TB) *Passwords {
	return NewPasswords(newSealer(t), NewBlocklist("auth.example.com"))
}

const good = "grumpy otter sells umbrellas"

func TestAPasswordIsVerified(t *testing.T) {
	ctx, p := context.Background(), passwords(t)
	s, err := p.New(ctx, "usr_dana", Type(good), t0)
	if err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]bool{
		good: true, good + " ": false, strings.ToUpper(good): false, "": false, good[:len(good)-1]: false, good + "\x00": false, strings.Repeat(good, 20): false,
	} {
		ok, stronger, err := p.Verify(ctx, s, Type(typed))
		if ok != want || stronger != nil || err != nil {
			t.Errorf("%q: %v, %d bytes, %v", typed, ok, len(stronger), err)
		}
	}
	if ok, _, err := p.Verify(ctx, Secret{}, Type(good)); ok || err != nil {
		t.Errorf("the password of nobody: %v %v", ok, err)
	}
	again, _ := p.New(ctx, "usr_dana", Type(good), t0)
	if string(again.Sealed) == string(s.Sealed) {
		t.Error("no salt")
	}
	moved := s // the sealed form says whose it is
	moved.ID = again.ID
	if ok, _, err := p.Verify(ctx, moved, Type(good)); ok || err == nil {
		t.Error("another factor's form was opened")
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v %s", Type(good), Type(good), Type(good), Type(good)), "otter") {
		t.Error("a password prints itself")
	}
}

func TestOnePasswordOnEveryKeyboard(t *testing.T) {
	ctx, p := context.Background(), passwords(t)
	composed, apart := "Zu\u00fcrich liegt am S\u00e9e 77", "Zuu\u0308rich liegt am Se\u0301e 77"
	s, err := p.New(ctx, "usr_dana", Type(composed), t0)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _, err := p.Verify(ctx, s, Type(apart)); !ok || err != nil {
		t.Errorf("decomposed: %v %v", ok, err)
	}
	if ok, _, _ := p.Verify(ctx, s, Type("Zuurich liegt am See 77")); ok {
		t.Error("without its marks it is another password")
	}
}

func TestWhatMayBeChosen(t *testing.T) {
	p := passwords(t)
	if err := p.block.Add(strings.NewReader("Horse-Battery-Staple-99\n\nwrong one in the file\n")); err != nil {
		t.Fatal(err)
	}
	about := []string{"dana@example.com", "Dana Okafor"}
	for _, c := range []struct {
		text  string
		least int
		code  string
	}{
		{good, PasswordAlone, ""},
		{strings.Repeat("\U0001f98a\U0001f438x", 21), PasswordAlone, "password_guessable"}, // repeats
		{"aj3k9dk2", PasswordWithCode, ""},
		{"aj3k9dk", PasswordWithCode, "password_short"},
		{"aj3k9dk2aj3k9", PasswordAlone, "password_short"},
		{"aj3k9dk2mq0x7p", PasswordAlone, "password_short"},
		{"aj3k9dk2mq0x7pz", PasswordAlone, ""},
		{"e\u0301e\u0301e\u0301e\u0301qrty", PasswordWithCode + 1, "password_short"}, // code points after NFC
		{strings.Repeat("vnqz8 pw ", 7), PasswordAlone, "password_guessable"},
		{good + " " + "and never any to a walrus at night", PasswordAlone, ""}, // 64 and more
		{strings.Repeat("x1y2", 64) + "a", PasswordAlone, "password_long"},
		{"8462 0175 9936 2841", PasswordAlone, ""}, // no rule about what it is made of
		{"pass\tword quite long", PasswordAlone, "password_characters"},
		{"aaaaaaaaaaaaaaaaaaa", PasswordAlone, "password_guessable"},
		{"abcabcabcabcabcabc", PasswordAlone, "password_guessable"},
		{"abcdefghijklmnopqrst", PasswordAlone, "password_guessable"},
		{"qwertzuiopasdfghjkl", PasswordAlone, "password_guessable"},
		{"1234567890123456789", PasswordAlone, "password_guessable"},
		{"password1", PasswordWithCode, "password_guessable"},
		{"P@$$w0rd2026!", PasswordWithCode, "password_guessable"},
		{"WelcomeSummer2026", PasswordAlone, "password_guessable"},
		{"danaokafor123456", PasswordAlone, "password_guessable"},
		{"Dana-Password-1!", PasswordAlone, "password_guessable"},
		{"dana@example.com", PasswordAlone, "password_guessable"},
		{"example.com 2026", PasswordAlone, "password_guessable"},
		{"countersign-2026", PasswordAlone, "password_guessable"},
		{"horse-battery-staple-99", PasswordAlone, "password_guessable"}, // the operator's
		{"horse-battery-staple-98", PasswordAlone, ""},
		{"dragon coffee winter falcon", PasswordAlone, ""}, // four words are a phrase
	} {
		if got := problem.CodeOf(p.Check(Type(c.text), c.least, about...)); got != c.code {
			t.Errorf("%q (%d): %q, want %q", c.text, c.least, got, c.code)
		}
	}
}

// Hashes that other software made of "correct horse": they verify, and are made
// anew at once.
var madeElsewhere = []string{
	"$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
	"$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e",
	"$scrypt$ln=11,r=8,p=1$c2FsdHNhbHRzYWx0$fcwMEEcuvJS5fR9c8PekgUzw226O6K17QJjJyDgcU04",
	"$pbkdf2-sha1$i=1000$c2FsdHNhbHRzYWx0$JfNU29qvQkW1UgahO6OQ0oP6O0I",
	"$pbkdf2-sha256$i=1000$c2FsdHNhbHRzYWx0$F7o7+5VTVzFAO998X6s3AHrDsJVdMiIlgndIMe19NvY",
	"$pbkdf2-sha512$i=1000$c2FsdHNhbHRzYWx0$oSKce4SGrSKsJabCWZfpe2MmVOPtl4paOjoD1njLdjo3le9sMBwq0q7ivJFcrXSTMQ0HjlOn/J48J9WZe4uR0g",
	"$pbkdf2-sha256$29000$...../vvvvv77777.....w$WAw4i6qk./BN8n...AvgmGLMEHIj0dszgiOMJRUw/XY", // as passlib writes it
}

func TestStrictHashes(t *testing.T) {
	ours := newHash([]byte("x")).String()
	if h, err := ParseHash(ours); err != nil || !h.Ours() || h.String() != ours {
		t.Fatalf("%s: %+v %v", ours, h, err)
	}
	tail := ours[strings.LastIndex(ours[:len(ours)-44], "$"):]
	for _, bad := range []string{
		"", "$", "$$$$$", "plain", "$argon2id$", "argon2id$v=19$m=19456,t=2,p=1" + tail,
		"$argon2d$v=19$m=19456,t=2,p=1" + tail, "$argon2id$v=16$m=19456,t=2,p=1" + tail, "$argon2id$m=19456,t=2,p=1" + tail,
		"$argon2id$v=19$t=2,m=19456,p=1" + tail, "$argon2id$v=19$m=019456,t=2,p=1" + tail, "$argon2id$v=19$m=+19456,t=2,p=1" + tail,
		"$argon2id$v=19$m=19456,t=2" + tail, "$argon2id$v=19$m=19456,t=2,p=1,x=1" + tail, "$argon2id$v=19$m=19456, t=2,p=1" + tail,
		"$argon2id$v=19$m=4,t=2,p=1" + tail, "$argon2id$v=19$m=999999999,t=2,p=1" + tail, "$argon2id$v=19$m=131072,t=16,p=1" + tail,
		"$argon2id$v=19$m=19456,t=0,p=1" + tail, "$argon2id$v=19$m=19456,t=2,p=0" + tail, ours + "=", ours + "$", ours + "\n", ours[:len(ours)-2],
		"$scrypt$ln=30,r=8,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA", "$scrypt$ln=18,r=32,p=8$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA",
		"$pbkdf2-sha256$i=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA", "$pbkdf2-md5$i=1000$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA",
		"$pbkdf2-sha256$i=1000$c2E$AAAAAAAAAAAAAAAAAAAAAA", "$pbkdf2-sha256$i=1000$c2FsdHNhbHRzYWx0$",
		"$2b$31$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2", "$2b$04$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy",
		"$2x$04$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2", "$2b$04$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lO!2",
	} {
		if h, err := ParseHash(bad); err == nil || h.String() != (Hash{}).String() {
			t.Errorf("%q was read: %+v", bad, h)
		}
	}
}

func FuzzParseHash(f *testing.F) {
	for _, s := range append(madeElsewhere, newHash([]byte("x")).String(), "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHash(s)
		if err != nil {
			if h.scheme != "" || h.salt != nil || h.sum != nil || h.text != "" {
				t.Fatalf("an error comes with a value: %+v", h)
			}
			return
		}
		again, err := ParseHash(h.String())
		if err != nil || again.String() != h.String() {
			t.Fatalf("%q is written as %q: %v", s, h, err)
		}
	})
}

// The pool of places: as many as there are processors work, a few wait, and the
// rest is refused at once.
func TestPasswordsAreNoWayToStopTheServer(t *testing.T) {
	p := passwords(t)
	hold := make(chan struct{})
	var holding sync.WaitGroup
	for range cap(p.places) {
		holding.Add(1)
		go p.work(context.Background(), func() { holding.Done(); <-hold })
	}
	holding.Wait()
	var waiting sync.WaitGroup
	for range cap(p.line) - cap(p.places) {
		waiting.Add(1)
		go func() { defer waiting.Done(); p.work(context.Background(), func() {}) }()
	}
	for len(p.line) < cap(p.line) {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	err := p.work(context.Background(), func() { t.Error("it ran") })
	if q := problem.From(err); q == nil || q.Kind != problem.Unavailable || q.RetryAfter == 0 {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took >= hashWait {
		t.Errorf("the refusal took %v", took)
	}
	close(hold)
	waiting.Wait()
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := p.work(ctx, func() {}); err != nil && !errors.Is(err, problem.Unavailable) {
		t.Errorf("%v", err)
	}
}

func TestImportedHashes(t *testing.T) {
	ctx, p := context.Background(), passwords(t)
	for _, text := range madeElsewhere {
		h, err := ParseHash(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		s, err := p.Of("usr_dana", h, t0)
		if err != nil {
			t.Fatal(err)
		}
		if ok, stronger, err := p.Verify(ctx, s, Type("correct horsf")); ok || stronger != nil || err != nil {
			t.Errorf("%s takes a wrong password: %v %v", text, ok, err)
		}
		ok, stronger, err := p.Verify(ctx, s, Type("correct horse"))
		if !ok || stronger == nil || err != nil {
			t.Errorf("%s: %v %v", text, ok, err)
			continue
		}
		s.Sealed = stronger
		if ok, more, err := p.Verify(ctx, s, Type("correct horse")); !ok || more != nil || err != nil {
			t.Errorf("%s, made anew: %v %d %v", text, ok, len(more), err)
		}
	}
}
