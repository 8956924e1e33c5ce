package risk

import (
	"cmp"
	"slices"
	"time"
)

// Claim is what somebody outside may say, from a fixed list: what it is worth and how
// it is told are decided here, not by who says it.
type Claim struct {
	Points int      // unless the report says another number
	Words  string   // a sentence for people
	About  []string // what it can be said of
}

// What can be reported on.
const (
	AboutPerson  = "person"
	AboutService = "service"
	AboutDevice  = "device"
	AboutClient  = "client"
	AboutSession = "session"
	AboutNetwork = "network"
)

// Claims are all there are, by name.
var Claims = map[string]Claim{
	"account_compromised": {60, "The account is thought to be in somebody else's hands.", []string{AboutPerson, AboutService}},
	"credential_leaked":   {60, "A secret was found where it should not be.", []string{AboutPerson, AboutService, AboutClient}},
	"session_hijacked":    {60, "The session is thought to be in somebody else's hands.", []string{AboutSession}},
	"device_compromised":  {60, "The device is thought to obey somebody else.", []string{AboutDevice}},
	"device_lost":         {60, "The device was lost or stolen.", []string{AboutDevice}},
	"client_compromised":  {60, "The app is thought to be in somebody else's hands.", []string{AboutClient}},
	"network_hostile":     {40, "Attacks come from this network.", []string{AboutNetwork}},
	"phishing":            {35, "Somebody is phishing for this account.", []string{AboutPerson}},
	"unusual_behaviour":   {20, "Elsewhere, too, something is unusual.", []string{AboutPerson, AboutService, AboutDevice, AboutClient, AboutSession}},
}

// Report is what somebody outside said of an actor or of what it uses. It counts
// until Until.
type Report struct {
	Points int
	Words  string
	Until  time.Time
}

// reports adds what was said, the worst first, up to what all of it may be worth
// together: whoever reports cannot refuse anybody by themselves.
func (c *scoring) reports(list []Report, at time.Time) {
	left := c.worth(Reported)
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Report) int {
		return cmp.Or(cmp.Compare(b.Points, a.Points), cmp.Compare(a.Words, b.Words))
	})
	for _, r := range list {
		n := min(max(r.Points, 0), left)
		if n == 0 || !at.Before(r.Until) {
			continue
		}
		left -= n
		c.out.Terms = append(c.out.Terms, Term{Reported, n, r.Words})
		c.out.Score += n
	}
}
