package factor

import (
	"context"
	"runtime"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/problem"
)

// How long a password is, in code points after normalisation (SP 800-63B-4
// 3.1.1.2): at least PasswordAlone where it is the only factor, PasswordWithCode
// beside a second one, and anything up to PasswordMost.
const (
	PasswordAlone    = 15
	PasswordWithCode = 8
	PasswordMost     = 256
)

// Typed is a password as somebody typed it. It redacts itself.
type Typed struct {
	raw  string
	norm string // NFC
}

// Type takes what somebody typed. It is normalised (NFC), so that the same
// password typed on another keyboard is the same; nothing is trimmed.
func Type(s string) Typed { return Typed{s, norm.NFC.String(s)} }

// String implements fmt.Stringer without telling.
func (Typed) String() string { return "[password]" }

// GoString implements fmt.GoStringer without telling.
func (Typed) GoString() string { return "[password]" }

// Sealer seals what is kept under the key-encryption key (hsm.File).
type Sealer interface {
	Seal(plain, associated []byte) ([]byte, error)
	Open(sealed, associated []byte) ([]byte, error)
}

// Passwords makes and verifies passwords. Hashing is dear on purpose, so only as
// many run at once as there are processors, and few may wait: whoever comes
// then is refused early and nobody else is slowed.
type Passwords struct {
	sealer Sealer
	block  *Blocklist
	places chan struct{}
	line   chan struct{}
	none   Hash // what is verified where there is nothing to verify
}

// hashWait is how long a password may wait for a processor.
const hashWait = 2 * time.Second

// NewPasswords makes them. block holds what nobody may choose.
func NewPasswords(sealer Sealer, block *Blocklist) *Passwords {
	n := min(runtime.NumCPU(), runtime.GOMAXPROCS(0)) // there may be more threads than processors
	return &Passwords{
		sealer: sealer, block: block, places: make(chan struct{}, n), line: make(chan struct{}, 8*n),
		none: newHash([]byte(id.Random("none"))),
	}
}

var errCrowded = func() *problem.Error {
	p := problem.New(problem.Unavailable, "passwords_busy", "Too many people are signing in with a password right now.").
		WithHint("Try again in a few seconds, or use a passkey now.")
	p.RetryAfter = 5 * time.Second
	return p
}()

// work runs what is dear when there is a place for it.
func (p *Passwords) work(ctx context.Context, f func()) error {
	select {
	case p.line <- struct{}{}:
	default:
		return errCrowded
	}
	defer func() { <-p.line }()
	wait := time.NewTimer(hashWait)
	defer wait.Stop()
	select {
	case p.places <- struct{}{}:
	case <-wait.C:
		return errCrowded
	case <-ctx.Done():
		return errCrowded.Because(ctx.Err())
	}
	defer func() { <-p.places }()
	f()
	return nil
}

// Check reports what is wrong with a password that somebody chooses, nil if
// nothing is. about are words that belong to whom it is for: their names.
func (p *Passwords) Check(t Typed, least int, about ...string) error {
	n := utf8.RuneCountInString(t.norm)
	switch {
	case n < least:
		return problem.Newf(problem.Invalid, "password_short", "A password has at least %d characters here. Several words make a good one.", least)
	case n > PasswordMost:
		return problem.Newf(problem.Invalid, "password_long", "A password has at most %d characters here.", PasswordMost)
	case !utf8.ValidString(t.norm), containsControl(t.norm):
		return problem.New(problem.Invalid, "password_characters", "A password can't hold control characters.")
	}
	if why := p.block.Why(t.norm, about...); why != "" {
		return problem.New(problem.Invalid, "password_guessable", "That password is easy to guess: "+why+".").
			WithHint("Choose another one. A password manager or several unrelated words make good ones.")
	}
	return nil
}

func containsControl(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) {
			return true
		}
	}
	return false
}

// New makes a password factor of a person; Check must have passed. The name is
// what the list of factors shows.
func (p *Passwords) New(ctx context.Context, person string, t Typed, now time.Time) (Secret, error) {
	var h Hash
	if err := p.work(ctx, func() { h = newHash([]byte(t.norm)) }); err != nil {
		return Secret{}, err
	}
	return p.Of(person, h, now)
}

// Of makes a password factor of a hash, e.g. an imported one.
func (p *Passwords) Of(person string, h Hash, now time.Time) (Secret, error) {
	s := Secret{Factor: Factor{ID: id.New(id.Credential), Person: person, Kind: KindPassword, Name: "Password", CreatedAt: now}}
	var err error
	s.Sealed, err = p.sealer.Seal([]byte(h.String()), SecretData(s.ID, KindPassword))
	return s, err
}

// Verify reports whether t is the password. A zero Secret, of somebody who is not
// known or has none, costs what a wrong password costs and is never right.
// stronger is the factor's new sealed form if it should be kept in one, nil if
// it need not.
func (p *Passwords) Verify(ctx context.Context, s Secret, t Typed) (ok bool, stronger []byte, err error) {
	h := p.none
	if s.ID != "" {
		plain, err := p.sealer.Open(s.Sealed, SecretData(s.ID, KindPassword))
		if err != nil {
			return false, nil, err
		}
		if h, err = ParseHash(string(plain)); err != nil {
			return false, nil, err
		}
	}
	text := t.norm
	if !h.Ours() && s.ID != "" {
		text = t.raw // other systems hashed what came
	}
	if utf8.RuneCountInString(text) > PasswordMost {
		text = "" // the hash of something that nobody could choose
	}
	var next Hash
	err = p.work(ctx, func() {
		ok = h.matches([]byte(text)) && s.ID != "" && text != ""
		if ok && !h.Ours() {
			next = newHash([]byte(t.norm))
		}
	})
	if err != nil || !ok || h.Ours() {
		return ok && err == nil, nil, err
	}
	stronger, err = p.sealer.Seal([]byte(next.String()), SecretData(s.ID, KindPassword))
	return err == nil, stronger, err
}
