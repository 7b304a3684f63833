package kafka

import "github.com/IBM/sarama"

// What a consumer holds of Kafka's data, whatever lies behind it. A record batch comes whole, even when it is larger than a limit, so that the
// consumer can go on: Atlas's producers make batches of at most 1 MiB before compression.
const (
	// fetchBytes is what one request asks for of one partition, fetchTotal of all of a broker's; both as they travel, compressed.
	fetchBytes = 256 << 10
	fetchTotal = 8 << 20
)

// boundMemory bounds what sarama keeps. Each partition has one fetched response that is being handed over and the batch that is being worked on;
// each broker has one response that has just arrived. sarama's own default adds a queue of 256 messages for each partition, whatever their size: up to 256 MiB.
func boundMemory(cfg *sarama.Config) {
	cfg.ChannelBufferSize = 0
	cfg.Consumer.Fetch.Default = fetchBytes
	cfg.Consumer.Fetch.MaxBytes = fetchTotal
}
