package factor

import (
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/problem"
)

// The budgets of guesses. A guess is paid for before it is looked at, so that a
// thousand at once are as many as there are places (security: OTP brute force).
const (
	GuessWindow  = 15 * time.Minute
	Guesses      = 5   // of one account's factor, from one source, in a window
	GuessesInRow = 100 // then the factor is off for that source until a right one from another
	// NetworkGuesses is how many guesses at all accounts together one network has
	// in a window: many names, one password.
	NetworkGuesses = 100
)

// guessKept is how long a budget is remembered after its last guess.
const guessKept = 90 * 24 * time.Hour

// strangerKept is the same for names that nobody has.
const strangerKept = 24 * time.Hour

// Bucket names a budget; it is a hash, and says nothing about whose it is.
type Bucket [32]byte

// Budget is how many guesses a bucket holds.
type Budget struct {
	Bucket Bucket
	Most   int // in a window
	Row    int // without a right one between them; 0: no limit
	Keep   time.Duration
}

// BudgetOf is the budget for guesses of a factor of somebody's. whose is what is
// guessed at: a folded user name, or a factor's id. Each device on which that
// person has signed in before has a budget of its own, and all others share one
// (device ""): whoever guesses from elsewhere never uses up the owner's.
func BudgetOf(k Kind, whose, device string, known bool) Budget {
	b := Budget{Bucket: bucketOf(string(k), whose, device), Most: Guesses, Row: GuessesInRow, Keep: strangerKept}
	if known {
		b.Keep = guessKept
	}
	return b
}

// NetworkBudget is the budget of all guesses from a network.
func NetworkBudget(network string) Budget {
	return Budget{Bucket: bucketOf("network", network), Most: NetworkGuesses, Keep: time.Hour}
}

// The budgets of device authorization, in a GuessWindow.
const (
	UserCodes      = 10   // typed by one person, right or wrong
	NetworkDevices = 60   // requests from one network of clients that prove nothing
	AllDevices     = 3000 // requests in all: what is stored for those who are not known has an end
)

// UserCodeBudget is the budget of the codes of devices that a person types.
func UserCodeBudget(person string) Budget {
	return Budget{Bucket: bucketOf("user-code", person), Most: UserCodes, Keep: time.Hour}
}

// DeviceBudgets are what a device's request is paid from: of everybody's, and of
// its network's unless its client proved who it is.
func DeviceBudgets(network string, proved bool) []Budget {
	out := []Budget{{Bucket: bucketOf("devices"), Most: AllDevices, Keep: time.Hour}}
	if !proved {
		out = append(out, Budget{Bucket: bucketOf("devices", network), Most: NetworkDevices, Keep: time.Hour})
	}
	return out
}

// The budgets of backchannel authentication, in a GuessWindow.
const (
	PersonAsks  = 3   // requests to one person that they did not allow, whoever asked
	ClientAsks  = 600 // of one client, to anybody
	NumberTries = 3   // numbers that are compared for one request
)

// AskBudgets are what a request to somebody is paid from: theirs, which what they
// allow is given back to, and its client's. whom is who is asked, or a name that
// nobody has.
func AskBudgets(whom, client string) []Budget {
	return []Budget{
		{Bucket: AskedBucket(whom), Most: PersonAsks, Keep: time.Hour},
		{Bucket: bucketOf("asks", client), Most: ClientAsks, Keep: time.Hour},
	}
}

// AskedBucket is the budget of the requests to somebody.
func AskedBucket(whom string) Bucket { return bucketOf("asked", whom) }

// NumberBudget is that of the numbers that are typed for a request.
func NumberBudget(request string) Budget {
	return Budget{Bucket: bucketOf("number", request), Most: NumberTries, Keep: time.Hour}
}

func bucketOf(parts ...string) Bucket {
	return Bucket(canon.H(canon.LabelGuess, []byte(strings.Join(parts, "\x00"))))
}

// Take takes one guess out of each budget, or out of none: then it is TooMany.
type Take struct{ Budgets []Budget }

// Forgive gives a budget back after a right answer from there. Of the budgets
// Elsewhere only the row ends: what is left of their window stays as it is.
type Forgive struct {
	Bucket    Bucket
	Elsewhere []Bucket
}

// Refund gives back to a network's budget what a right sign-in took: a network
// with many people behind it is not held up by their signing in.
type Refund struct {
	Bucket Bucket
	Paid   int
}

// Change marks Take as a change.
func (Take) Change() {}

// Change marks Refund as a change.
func (Refund) Change() {}

// Change marks Forgive as a change.
func (Forgive) Change() {}

// TooMany is the refusal of a guess that is not looked at. wait is how long the
// window lasts; 0 if no time helps.
func TooMany(wait time.Duration) *problem.Error {
	p := problem.New(problem.Throttled, "too_many_attempts", "Too many attempts. This one was not looked at.").
		WithHint("A passkey works now.")
	p.RetryAfter = max(wait, 0)
	if wait == 0 {
		p.Hint = "This way is off from here until you have signed in another way. A passkey works now."
	}
	return p
}
