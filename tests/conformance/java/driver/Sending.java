import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** The ways to send, each read back from its queues. */
final class Sending {
    private Sending() {
    }

    static void register(Map<String, Driver.Scenario> all) {
        all.put("send_ways", Sending::ways);
        all.put("batch", Sending::batch);
        all.put("selector", Sending::selector);
        all.put("large_body", Sending::largeBody);
        all.put("transaction", Sending::transaction);
    }

    /** Synchronous, asynchronous and one-way, to a topic that does not exist before the first send. */
    private static void ways(Driver driver, Facts facts) throws Exception {
        String topic = driver.topic("ways");
        for (int i = 0; i < 6; i++) {
            sent(facts, "sync", "sync-" + i, driver.producer.send(Driver.message(topic, "tag" + i % 2, "key" + i + " both", "sync-" + i)));
        }
        CountDownLatch answers = new CountDownLatch(6);
        for (int i = 0; i < 6; i++) {
            String body = "async-" + i;
            driver.producer.send(Driver.message(topic, "tag", "async" + i, body), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    sent(facts, "async", body, result);
                    answers.countDown();
                }

                @Override
                public void onException(Throwable e) {
                    facts.say("refused", "how", "async", "body", body, "error", e.toString());
                    answers.countDown();
                }
            });
        }
        answers.await(Driver.PATIENCE_MS, TimeUnit.MILLISECONDS);
        for (int i = 0; i < 6; i++) {
            driver.producer.sendOneway(Driver.message(topic, "tag", "oneway" + i, "oneway-" + i));
        }
        Reading.readBack(driver, facts, topic, 18);
    }

    private static void batch(Driver driver, Facts facts) throws Exception {
        String topic = driver.createTopic("batch", 2);
        List<Message> batch = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            batch.add(Driver.message(topic, "tag" + i % 2, "batch" + i, "batch-" + i));
        }
        sent(facts, "batch", "batch", driver.producer.send(batch));
        Reading.readBack(driver, facts, topic, 20);
    }

    /** Four keys in four queues: what has one key keeps its order. */
    private static void selector(Driver driver, Facts facts) throws Exception {
        String topic = driver.createTopic("selector", 4);
        for (int i = 0; i < 32; i++) {
            String body = "k" + i % 4 + "-" + i / 4;
            sent(facts, "selector", body, driver.producer.send(Driver.message(topic, "tag", "k" + i % 4, body),
                (queues, message, key) -> queues.get((Integer) key), i % 4));
        }
        Reading.readBack(driver, facts, topic, 32);
    }

    /** Bodies above 4 KiB leave the client compressed and must come back as they were. */
    private static void largeBody(Driver driver, Facts facts) throws Exception {
        String topic = driver.createTopic("large", 1);
        byte[] plain = new byte[100_000];
        for (int i = 0; i < plain.length; i++) {
            plain[i] = (byte) ('a' + i % 13);
        }
        byte[] noise = new byte[9_000];
        new Random(7).nextBytes(noise);
        for (byte[] body : new byte[][] {plain, noise}) {
            java.util.zip.CRC32 crc = new java.util.zip.CRC32();
            crc.update(body);
            facts.say("body", "size", body.length, "crc", crc.getValue());
            sent(facts, "sync", "large", driver.producer.send(new Message(topic, body)));
        }
        Reading.readBack(driver, facts, topic, 2);
    }

    /** One committed, one rolled back, one that the broker has to ask about. */
    private static void transaction(Driver driver, Facts facts) throws Exception {
        String topic = driver.createTopic("transaction", 1);
        TransactionMQProducer producer = new TransactionMQProducer(driver.prefix + "_transaction");
        producer.setNamesrvAddr(driver.ns);
        producer.setInstanceName(Driver.instance());
        CountDownLatch asked = new CountDownLatch(1);
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message m, Object arg) {
                return (LocalTransactionState) arg;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt m) {
                facts.message("asked", "check", m);
                asked.countDown();
                return LocalTransactionState.COMMIT_MESSAGE;
            }
        });
        producer.start();
        for (LocalTransactionState state : LocalTransactionState.values()) {
            SendResult r = producer.sendMessageInTransaction(Driver.message(topic, "tag", state.name(), state.name()), state);
            sent(facts, state.name(), state.name(), r);
        }
        facts.say("was_asked", "yes", asked.await(Driver.PATIENCE_MS, TimeUnit.MILLISECONDS));
        Reading.readBack(driver, facts, topic, 2);
        producer.shutdown();
    }

    static void sent(Facts facts, String how, String body, SendResult r) {
        facts.say("sent", "how", how, "body", body, "status", r.getSendStatus().name(), "id", r.getMsgId(), "offset_id", r.getOffsetMsgId(),
            "topic", r.getMessageQueue().getTopic(), "queue", r.getMessageQueue().getQueueId(), "offset", r.getQueueOffset(), "region", r.getRegionId());
    }
}
