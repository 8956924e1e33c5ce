package jose

import "math/big"

// factorable reports whether a modulus has the mark of the key generator of
// CVE-2017-15361 (ROCA), whose keys up to 2,048 bits can be factored. Both its
// primes are powers of 65537 modulo a product of small primes, so its moduli are,
// too. One of 2²⁷ other moduli looks so.
func factorable(n *big.Int) bool {
	for _, p := range [...]int64{
		3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107,
		109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
	} {
		rest, power := new(big.Int).Mod(n, big.NewInt(p)).Int64(), int64(1)
		for range p {
			if power == rest {
				break
			}
			power = power * 65537 % p
		}
		if power != rest {
			return false
		}
	}
	return true
}
