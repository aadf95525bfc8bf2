-- A small invented shop, for recipes/sql.yaml. / 供 recipes/sql.yaml 使用的虚构小店。
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT, city TEXT, since INTEGER);
CREATE TABLE product (id INTEGER PRIMARY KEY, title TEXT, category TEXT, price REAL, stock INTEGER);
CREATE TABLE purchase (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customer(id), product_id INTEGER REFERENCES product(id), amount INTEGER, day TEXT);
INSERT INTO customer VALUES (1, 'Mara Lind', 'Lyon', 2019), (2, '周岚', '苏州', 2020), (3, 'Tomas Reyes', 'Porto', 2021), (4, '何晓', '苏州', 2021), (5, 'Ada Quist', 'Lyon', 2022);
INSERT INTO product VALUES (1, 'kettle', 'kitchen', 34.5, 12), (2, '茶杯', 'kitchen', 6, 80), (3, 'desk lamp', 'office', 49, 7), (4, 'notebook', 'office', 3.2, 200), (5, '雨伞', 'outdoors', 15, 31), (6, 'rucksack', 'outdoors', 79.9, 5);
INSERT INTO purchase VALUES (1, 1, 1, 1, '2024-03-02'), (2, 1, 4, 10, '2024-03-02'), (3, 2, 2, 6, '2024-03-05'), (4, 3, 6, 1, '2024-04-11'), (5, 4, 5, 2, '2024-04-12'), (6, 4, 3, 1, '2024-05-01'), (7, 5, 4, 25, '2024-05-03'), (8, 2, 5, 1, '2024-05-09');
