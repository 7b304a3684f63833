// Package process supervises the background programs of one development environment: it starts them detached,
// remembers each by pid and start time, and ends exactly those again, whatever happened to the command that started them.
//
// Everything an environment owns lives in its State folder, outside the checkout; downloads and builds that
// environments share live in the Cache folder.
package process
