package main

import "github.com/spf13/cobra"

// strict makes words that no command takes an error of usage everywhere, also
// behind a command that only groups others: a script with a typo must not seem
// to succeed.
func strict(c *cobra.Command) *cobra.Command {
	if c.Run == nil && c.RunE == nil {
		c.Args = cobra.NoArgs
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	if args := c.Args; args != nil {
		c.Args = func(c *cobra.Command, words []string) error {
			if err := args(c, words); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		strict(sub)
	}
	return c
}
