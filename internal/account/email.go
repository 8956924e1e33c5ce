package account

import (
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/secret"
)

// EmailLifetime is how long a link that proves an address works.
const EmailLifetime = 24 * time.Hour

// EmailEvery is how long to wait before another link is asked for.
const EmailEvery = 2 * time.Minute

// ProveEmail says that a person reads what is sent to an address. It holds only
// while that is their address.
type ProveEmail struct {
	ID    string
	Email string
}

// Change marks ProveEmail as a change.
func (ProveEmail) Change() {}

// EmailProof is what a link that proves an address stands for: the data of a
// once.EmailVerify value.
type EmailProof struct {
	Person string `json:"person"`
	Email  string `json:"email"`
}

// NewEmailProof makes the single-use value and the link, <issuer>/email?link=<secret>,
// that proves an address. It is worth nothing else, so it may stand in a query,
// where it works without JavaScript; opening it spends nothing. A newer one of the
// same person takes its place.
func NewEmailProof(issuer string, p EmailProof, now time.Time) (put once.Replace, link string) {
	data, err := json.Marshal(p)
	if err != nil {
		panic("account: the proof of an address is text: " + err.Error())
	}
	text := secret.New(secret.Email).Reveal()
	put.Value = once.Value{
		Purpose: once.EmailVerify, Key: once.KeyOf(once.EmailVerify, text), Bound: p.Person, Data: data, MadeAt: now, ExpiresAt: now.Add(EmailLifetime),
	}
	return put, issuer + "/email?link=" + url.QueryEscape(text)
}

// ReadEmailProof reads what a stored once.EmailVerify value stands for.
func ReadEmailProof(v once.Value) (EmailProof, error) {
	var p EmailProof
	if v.Purpose != once.EmailVerify {
		return p, fmt.Errorf("account: a value of purpose %d proves no address", v.Purpose)
	}
	if err := json.Unmarshal(v.Data, &p); err != nil {
		return EmailProof{}, fmt.Errorf("account: read the proof of an address: %w", err)
	}
	if p.Person == "" || p.Person != v.Bound || p.Email == "" {
		return EmailProof{}, fmt.Errorf("account: the proof of an address is not bound to its person")
	}
	return p, nil
}

// EmailAsked is the mark of having asked for a link: there is one for each person
// in EmailEvery.
func EmailAsked(person string, now time.Time) once.Spend {
	n := now.Unix() / int64(EmailEvery.Seconds())
	until := time.Unix((n+1)*int64(EmailEvery.Seconds()), 0)
	return once.Spend{Purpose: once.EmailVerify, Key: once.KeyOf(once.EmailVerify, "asked", person, fmt.Sprint(n)), Mark: true, Until: until}
}
