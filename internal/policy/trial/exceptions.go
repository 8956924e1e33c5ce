package trial

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/countersign-dev/countersign/internal/policy"
)

// ExceptionsFile is the name of the file of exceptions beside policies.
const ExceptionsFile = "exceptions.yaml"

type exceptionsFile struct {
	Exceptions []Exception `yaml:"exceptions"`
}

// Exception is one as the file says it.
type Exception struct {
	ID      string  `yaml:"id"`
	Rule    string  `yaml:"rule"`
	For     string  `yaml:"for"`
	Owner   string  `yaml:"owner"`
	Reason  string  `yaml:"reason"`
	Instead Instead `yaml:"instead"`
	Until   string  `yaml:"until"` // a date, or RFC 3339
}

// Instead is what is shown in the place of the rule.
type Instead struct {
	Rung   string `yaml:"rung"`
	MaxAge string `yaml:"max_age,omitempty"`
}

// Exceptions reads a file of exceptions, strictly: a member that is not known is an
// error. Whether the rules are there is for policy.Compile.
func Exceptions(text []byte) ([]policy.Exception, error) {
	var f exceptionsFile
	d := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", ExceptionsFile, err)
	}
	if err := d.Decode(new(exceptionsFile)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: a file holds one document", ExceptionsFile)
	}
	var out []policy.Exception
	for i, e := range f.Exceptions {
		one, err := e.Exception()
		if err != nil {
			return nil, fmt.Errorf("%s: exception %d: %w", ExceptionsFile, i+1, err)
		}
		out = append(out, one)
	}
	return out, nil
}

// Exception is what the file says, as policies know it.
func (e *Exception) Exception() (policy.Exception, error) {
	r, err := rung(e.Instead.Rung)
	old, err2 := age(e.Instead.MaxAge)
	until, err3 := time.Parse(time.DateOnly, e.Until)
	if err3 != nil {
		if until, err3 = time.Parse(time.RFC3339, e.Until); err3 != nil {
			err3 = fmt.Errorf("%q is no end: 2026-12-01, or 2026-12-01T12:00:00Z", e.Until)
		}
	}
	if old%time.Second != 0 {
		err2 = errors.Join(err2, errors.New("max_age is of whole seconds"))
	}
	return policy.Exception{
		ID: e.ID, Rule: e.Rule, For: e.For, Owner: e.Owner, Reason: e.Reason,
		Rung: int(r), MaxAge: int64(old / time.Second), Until: until.UTC(),
	}, errors.Join(err, err2, err3)
}

// Write is the file of exceptions; Exceptions reads it again.
func Write(all []policy.Exception) string {
	f := exceptionsFile{}
	for i := range all {
		e := &all[i]
		out := Exception{ID: e.ID, Rule: e.Rule, For: e.For, Owner: e.Owner, Reason: e.Reason, Until: e.Until.UTC().Format(time.RFC3339)}
		out.Instead.Rung = name(e.Instead().Rung)
		if e.MaxAge > 0 {
			out.Instead.MaxAge = (time.Duration(e.MaxAge) * time.Second).String()
		}
		f.Exceptions = append(f.Exceptions, out)
	}
	text, err := yaml.Marshal(f)
	if err != nil {
		return "" // strings only: cannot fail
	}
	return string(text)
}
