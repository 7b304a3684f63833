// Package faults runs a whole Atlas, two processes of each role, on real servers behind a fault-injecting proxy, and breaks everything at random while
// clients write: processes and servers are killed, paused and restarted, and cut off from each other. Afterwards nothing that was acknowledged may
// be lost, nothing may be doubled, and search and audit must agree with PostgreSQL. A seed makes the same plan of faults and writes again.
//
// safeguards_test.go takes the safeguards out of the program, one at a time, and expects the same checks to find it.
package faults
