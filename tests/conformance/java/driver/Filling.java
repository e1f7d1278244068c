import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** What fills a store that other programs open afterwards, and what reads such a store back. Only on request. */
final class Filling {
    private static final List<String> TOPICS = Arrays.asList("orders", "events", "batches", "load");
    private static final List<String> INNER_TOPICS = Arrays.asList("SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC");

    private Filling() {
    }

    static void register(Map<String, Driver.Scenario> all) {
        all.put("store_fill", Filling::fill);
        all.put("store_fill_plain", Filling::fillPlain);
        all.put("store_load", Filling::load);
        all.put("store_read", Filling::read);
    }

    /** Several topics and queues, with and without tags and keys, a batch, stored offsets. */
    private static void fillPlain(Driver driver, Facts facts) throws Exception {
        String orders = driver.createTopic("orders", 2);
        String events = driver.createTopic("events", 3);
        String batches = driver.createTopic("batches", 1);
        List<MessageQueue> two = driver.queues(orders);
        List<MessageQueue> three = driver.queues(events);
        for (int i = 0; i < 300; i++) {
            Message order = new Message(orders, "tag" + i % 3, "order" + i + " customer" + i % 10, body("order", i, 3600));
            order.putUserProperty("region", i % 2 == 0 ? "north" : "s\u00fcd");
            sent(facts, driver.producer.send(order, two.get(i % 2)));
            sent(facts, driver.producer.send(new Message(events, body("event", i, 40)), three.get(i % 3)));
        }
        List<Message> batch = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            batch.add(new Message(batches, "tag", "batch" + i, body("batch", i, 40)));
        }
        sent(facts, driver.producer.send(batch));
        DefaultMQPullConsumer c = puller(driver, "progress");
        for (MessageQueue q : two) {
            c.pull(q, "*", 0, 1); // makes the group known: offsets of unknown ones are refused
            c.getDefaultMQPullConsumerImpl().getOffsetStore().updateConsumeOffsetToBroker(q, 30 + q.getQueueId(), false);
            facts.say("committed", "group", c.getConsumerGroup(), "topic", orders, "queue", q.getQueueId(), "offset", 30 + q.getQueueId());
        }
        c.shutdown();
    }

    /** The same, and a delayed message and three of transactions: one committed, one rolled back, one undecided. */
    private static void fill(Driver driver, Facts facts) throws Exception {
        fillPlain(driver, facts);
        String orders = driver.topic("orders");
        Message delayed = new Message(orders, "tag0", "delayed", body("delayed", 0, 40));
        delayed.setDelayTimeLevel(18);
        sent(facts, driver.producer.send(delayed));
        half(driver, facts, orders);
    }

    private static void half(Driver driver, Facts facts, String topic) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer(driver.prefix + "_transaction");
        producer.setNamesrvAddr(driver.ns);
        producer.setInstanceName(Driver.instance());
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message m, Object arg) {
                return (LocalTransactionState) arg;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt m) {
                return LocalTransactionState.UNKNOW;
            }
        });
        producer.start();
        for (LocalTransactionState s : LocalTransactionState.values()) {
            sent(facts, producer.sendMessageInTransaction(new Message(topic, "tag1", s.name(), body("half", s.ordinal(), 40)), s));
        }
        producer.shutdown();
    }

    /** Four senders that go on until the broker is gone; every acknowledged message is said. */
    private static void load(Driver driver, Facts facts) throws Exception {
        String topic = driver.createTopic("load", 4);
        List<MessageQueue> queues = driver.queues(topic);
        driver.producer.setRetryTimesWhenSendFailed(0);
        facts.say("loading");
        List<Thread> threads = new ArrayList<>();
        for (int t = 0; t < 4; t++) {
            int me = t;
            Thread thread = new Thread(() -> {
                try {
                    for (int i = 0;; i++) {
                        Message m = new Message(topic, "tag" + i % 3, "load" + me + "-" + i, body("load" + me, i, 3600));
                        sent(facts, driver.producer.send(m, queues.get(me)));
                    }
                } catch (Exception theEnd) {
                    facts.say("stopped", "why", theEnd.getClass().getSimpleName());
                }
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
    }

    /** Says all that the queues of the known topics hold, and their bounds. */
    private static void read(Driver driver, Facts facts) throws Exception {
        DefaultMQPullConsumer c = puller(driver, "store_reader");
        List<String> topics = new ArrayList<>();
        for (String t : TOPICS) {
            topics.add(driver.topic(t));
        }
        topics.addAll(INNER_TOPICS);
        for (String topic : topics) {
            List<MessageQueue> queues;
            try {
                queues = new ArrayList<>(c.fetchSubscribeMessageQueues(topic));
            } catch (Exception none) {
                continue;
            }
            Collections.sort(queues);
            for (MessageQueue q : queues) {
                long min = c.minOffset(q);
                long max = c.maxOffset(q);
                facts.say("queue", "topic", topic, "queue", q.getQueueId(), "min", min, "max", max);
                for (long at = min; at < max;) {
                    PullResult r = c.pull(q, "*", at, 32);
                    if (r.getPullStatus() == PullStatus.FOUND) {
                        for (MessageExt m : r.getMsgFoundList()) {
                            facts.message("stored", "pull", m);
                        }
                    }
                    at = Math.max(at + 1, r.getNextBeginOffset());
                }
            }
        }
        c.shutdown();
    }

    private static DefaultMQPullConsumer puller(Driver driver, String group) throws Exception {
        DefaultMQPullConsumer c = new DefaultMQPullConsumer(driver.prefix + "_" + group);
        c.setNamesrvAddr(driver.ns);
        c.setInstanceName(Driver.instance());
        c.start();
        return c;
    }

    private static void sent(Facts facts, SendResult r) {
        Sending.sent(facts, "store", "", r);
    }

    /** `size` bytes that name the message and compress well, as fixtures are kept compressed. */
    private static byte[] body(String name, int i, int size) {
        StringBuilder b = new StringBuilder();
        while (b.length() < size) {
            b.append(name).append('-').append(i).append(' ');
        }
        return b.substring(0, size).getBytes();
    }
}
